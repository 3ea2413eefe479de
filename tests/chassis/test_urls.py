"""URLs of brokers and stores: what is refused, in a sentence that holds no part of the URL."""

import pytest

from chassis.settings import SettingsError, load
from chassis.urls import each

MARKER = "hunter2"
BUS, INBOX, OTLP = "CHASSIS_BUS_URL", "CHASSIS_INBOX_URL", "CHASSIS_OTLP_ENDPOINT"


def sentence(variable: str, url: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load({variable: url})
    said = str(refused.value)
    assert said.startswith(f"{variable}: ")
    assert "\n" not in said
    return said.removeprefix(f"{variable}: ")


@pytest.mark.parametrize(
    ("variable", "scheme"),
    [
        (BUS, "amqp"),
        (BUS, "amqps"),
        (BUS, "nats"),
        (BUS, "tls"),
        (INBOX, "nats"),
        (INBOX, "redis"),
        (INBOX, "rediss"),
        (INBOX, "postgresql"),
        (OTLP, "http"),
        (OTLP, "https"),
    ],
)
@pytest.mark.parametrize(
    "rest",
    [
        f"svc:p@s{MARKER}@host:5999/0",
        f"svc:p#s{MARKER}@host:5999/0",
        f"svc:p@s#s/{MARKER}@host:5999/0",
        f"svc:p/s{MARKER}@host:5999/0",
        f"svc:12/{MARKER}@host:5999/0",
        f"svc:12?{MARKER}@host:5999/0",
        f"svc:a%zz{MARKER}@host:5999/0",
        f"svc:a {MARKER}@host:5999/0",
        f"svc:[{MARKER}@host:5999/0",
        f"svc:a\n{MARKER}@host:5999/0",
        f"svc:{MARKER}@host:port",
    ],
)
def test_a_special_character_that_is_not_encoded_is_refused_without_a_part_of_the_password(
    variable: str, scheme: str, rest: str
) -> None:
    said = sentence(variable, f"{scheme}://{rest}")
    assert "percent-encode" in said
    assert MARKER not in said


@pytest.mark.parametrize(
    ("variable", "url", "says"),
    [
        (BUS, f"kafka://{MARKER}@broker", "the scheme must be one of amqp://, amqps://, nats://"),
        (BUS, f"nats://one,kafka://{MARKER}", "the scheme must be one of"),
        (BUS, f"amqp://one,,{MARKER}", "it names no host"),
        (INBOX, f"redis://one,{MARKER}", "it names several servers, and this scheme takes one"),
        (INBOX, "mysql://store", "the scheme must be one of nats://"),
        (OTLP, "collector:4318", "the scheme must be one of http://, https://"),
        (BUS, "amqp://", "it names no host, expected something like amqp://host"),
        (INBOX, f"redis://:{MARKER}@host/{MARKER}", "its path must be a database's number"),
        (INBOX, f"redis+sentinel://:{MARKER}@host", "its path must name the primary"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_what_is_expected(
    variable: str, url: str, says: str
) -> None:
    said = sentence(variable, url)
    assert says in said
    assert MARKER not in said


@pytest.mark.parametrize(
    ("variable", "url", "says"),
    [
        (INBOX, f"postgresql://svc:p@host/db?nonsense={MARKER}", "sslmode"),
        (INBOX, f"redis://host/0?nonsense={MARKER}", "ssl_ca_certs"),
        (INBOX, f"redis://host/0?socket_timeout={MARKER}", "ssl_ca_certs"),
        (BUS, f"amqp://host/vhost?{MARKER}", "heartbeat"),
        (BUS, f"nats://host,other?{MARKER}", "cafile"),
    ],
)
def test_an_unknown_parameter_is_refused_with_the_known_ones(
    variable: str, url: str, says: str
) -> None:
    said = sentence(variable, url)
    assert "unknown parameter" in said
    assert says in said
    assert MARKER not in said


def test_a_scheme_that_takes_no_parameters_says_so() -> None:
    assert "https:// takes no parameters" in sentence(OTLP, f"https://host?x={MARKER}")


def test_each_server_of_a_url_has_the_login_and_the_parameters() -> None:
    assert each("amqps://svc:p,w@a,b:5673/v?cafile=x,amqp://c") == [
        "amqps://svc:p,w@a/v?cafile=x",
        "amqps://svc:p,w@b:5673/v?cafile=x",
        "amqp://c",
    ]


@pytest.mark.parametrize(
    ("variable", "url", "name"),
    [
        (INBOX, f"postgresql://host/db?connect_timeout={MARKER}", "connect_timeout"),
        (INBOX, f"redis://host?db={MARKER}", "db"),
        (BUS, f"amqp://host?heartbeat={MARKER}", "heartbeat"),
    ],
)
def test_a_parameter_that_is_no_number_is_named(variable: str, url: str, name: str) -> None:
    assert sentence(variable, url) == f"its parameter {name} must be a whole number"


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        (BUS, "amqps://svc:p%40s%23s@host:5671/vhost?cafile=/etc/ca.pem&heartbeat=20"),
        (BUS, "nats://one:4222,nats://svc:a%20b@two:4222"),
        (BUS, "tls://svc:pw@one:4222,two,three?cafile=/ca.pem&certfile=/c.pem&keyfile=/k.pem"),
        (BUS, "amqp://svc:pw@one,two:5673/vhost?heartbeat=20"),
        (INBOX, "postgresql://svc@one:5432,two:5433/db?target_session_attrs=read-write"),
        (BUS, "memory://"),
        (INBOX, "redis://:p%2Fs@[::1]:6379/2"),
        (INBOX, "rediss://host?ssl_ca_certs=/etc/ca.pem"),
        (INBOX, "redis+sentinel://svc:pw@one,two:26380/primary/0?sentinel_password=p"),
        (BUS, "tls://one,two?credsfile=/nats/svc.creds"),
        (INBOX, "postgresql://svc@host/db?sslmode=verify-full&connect_timeout=3"),
        (OTLP, "http://collector:4318"),
    ],
)
def test_a_url_as_it_should_be_is_taken_as_it_is(variable: str, url: str) -> None:
    name = variable.removeprefix("CHASSIS_").lower()
    assert getattr(load({variable: url}), name) == url
