"""What JetStream refuses, by its own error codes."""

WRONG_LAST_SEQUENCE = 10071
ANOTHER_UNDER_WAY = 10164
"""Of a cluster: another message of the subject is not yet stored by a majority."""
NO_CONSUMER = 10014
NO_MESSAGE = 10037
NOT_CLUSTERED = 10074
NOT_ENOUGH_NODES = 10005
NO_STREAM = 10059
PURGE_DENIED = 10110
STREAM_EXISTS = 10058
CONSUMER_EXISTS = 10148
NO_CONSUMER_TO_UPDATE = 10149


class JetStreamError(Exception):
    """The server refused. `code` is one of JetStream's own, such as WRONG_LAST_SEQUENCE."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} (JetStream error {code})")
        self.code = code
