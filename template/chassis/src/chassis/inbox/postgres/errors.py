"""Errors of PostgreSQL and of its client, in the words of a person who can mend them.

Knows no connection and no table.
"""

import psycopg

_REFUSES_WRITES = {
    "25006": "it is read-only: a standby, or default_transaction_read_only is on",
    "53100": "its disk is full",
    "53200": "it is out of memory",
}
"""By SQLSTATE."""

_TLS = {
    "server does not support SSL": (
        "speaks no TLS, but sslmode in CHASSIS_INBOX_URL demands it: "
        "turn TLS on in the server, or choose another sslmode"
    ),
    "certificate verify failed": (
        "has a certificate that is not trusted: "
        "name the file of its CA as sslrootcert in CHASSIS_INBOX_URL"
    ),
    "does not match host name": (
        "has a certificate for another host name: "
        "use the name in the certificate in CHASSIS_INBOX_URL"
    ),
    "root certificate file": (
        "cannot be verified without the file of its CA: "
        "name that file as sslrootcert in CHASSIS_INBOX_URL"
    ),
    "no encryption": (
        "takes no connection without TLS from here (pg_hba.conf): "
        "set sslmode=require, or a stricter one, in CHASSIS_INBOX_URL"
    ),
}
"""By a part of the client's message, which has no code."""


def in_words(error: Exception) -> str:
    """The rest of a sentence that begins with the server's name; on one line."""
    if isinstance(error, psycopg.Error) and error.sqlstate in _REFUSES_WRITES:
        return f"refuses writes: {_REFUSES_WRITES[error.sqlstate]} (SQLSTATE {error.sqlstate})"
    said = " ".join(str(error).split()) or type(error).__name__
    for part, words in _TLS.items():
        if part in said:
            return f"{words}. It said: {said}"
    return f"failed: {said}"
