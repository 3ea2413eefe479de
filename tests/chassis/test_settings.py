"""Settings from the environment: a mistake is one line that names the variable and no secret."""

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.settings import VARIABLES, SettingsError, effective, load
from chassis.urls import masked


def mistake(**variables: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load({f"CHASSIS_{name}": value for name, value in variables.items()})
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_everything_has_a_default() -> None:
    settings = load({})
    assert settings.max_attempts == 5
    assert settings.bus_url is None


def test_variables_set_what_they_name() -> None:
    settings = load({"CHASSIS_MAX_ATTEMPTS": "7", "CHASSIS_DRAIN_SECONDS": "2.5", "PATH": "/bin"})
    assert (settings.max_attempts, settings.drain_seconds) == (7, 2.5)


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert load({"CHASSIS_MAX_ATTEMPTS": "", "CHASSIS_BUS_URL": ""}) == load({})


def test_only_the_environment_that_was_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHASSIS_MAX_ATTEMPTS", "7")
    assert load({}).max_attempts == 5
    assert load().max_attempts == 7


def test_an_override_wins() -> None:
    assert load({"CHASSIS_MAX_ATTEMPTS": "7"}, max_attempts=2).max_attempts == 2


def test_an_override_that_is_no_setting_is_refused() -> None:
    with pytest.raises(SettingsError, match="CHASSIS_MAX_ATEMPTS"):
        load({}, max_atempts=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_ATTEMPTS", "many"),
        ("MAX_ATTEMPTS", "0"),
        ("PREFETCH", "0"),
        ("PREFETCH", "1.5"),
        ("HTTP_PORT", "65536"),
        ("DRAIN_SECONDS", "0"),
        ("DRAIN_SECONDS", "inf"),
        ("BACKOFF_SECONDS", "-1"),
        ("BACKOFF_MAX_SECONDS", "nan"),
        ("HANDLER_TIMEOUT_SECONDS", "soon"),
        ("LEASE_SECONDS", "0.5"),
        ("RETENTION_SECONDS", "1"),
        ("MAX_AGE_SECONDS", "-1"),
        ("MAX_BODY_BYTES", "1kB"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("TRACE_RATIO", "1.1"),
        ("MIGRATE", "perhaps"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_variable_and_value(name: str, value: str) -> None:
    message = mistake(**{name: value})
    assert message.startswith(f"CHASSIS_{name}={value!r}: ")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MAX_ATTEMPTS", "many", "it must be a whole number, at least 1, at most 100"),
        ("DRAIN_SECONDS", "inf", "it must be a number, above 0"),
        ("TRACE_RATIO", "1.1", "it must be a number, at least 0, at most 1"),
        ("MIGRATE", "perhaps", "it must be true or false"),
        ("LOG_FORMAT", "xml", "it must be one of auto, json, console"),
    ],
)
def test_a_wrong_value_is_told_what_is_allowed(name: str, value: str, says: str) -> None:
    assert mistake(**{name: value}) == f"CHASSIS_{name}={value!r}: {says}"


@pytest.mark.parametrize(
    ("text", "is_"), [("true", True), ("1", True), ("No", False), ("OFF", False)]
)
def test_a_flag_is_read_in_the_usual_spellings(text: str, is_: bool) -> None:
    assert load({"CHASSIS_MIGRATE": text}).migrate is is_


def test_two_wrong_values_are_both_named() -> None:
    message = mistake(PREFETCH="0", HTTP_PORT="x")
    assert "CHASSIS_PREFETCH=" in message
    assert "CHASSIS_HTTP_PORT=" in message


def test_a_misspelt_variable_is_refused_with_a_suggestion() -> None:
    assert (
        mistake(PREFECH="5") == "CHASSIS_PREFECH is not a setting: did you mean CHASSIS_PREFETCH?"
    )


def test_a_variable_in_lower_case_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match="CHASSIS_PREFETCH"):
        load({"chassis_prefetch": "5"})


def test_an_unknown_variable_without_a_likeness_is_told_what_there_is() -> None:
    assert "CHASSIS_MAX_ATTEMPTS" in mistake(ZZZZZZZZZZZZZZ="5")


def test_a_handler_must_end_while_its_lease_holds() -> None:
    message = mistake(HANDLER_TIMEOUT_SECONDS="60", LEASE_SECONDS="60")
    assert "CHASSIS_HANDLER_TIMEOUT_SECONDS=60 must be below CHASSIS_LEASE_SECONDS=60" in message


def test_the_first_backoff_is_not_above_the_longest() -> None:
    assert "CHASSIS_BACKOFF_MAX_SECONDS=2" in mistake(BACKOFF_SECONDS="3", BACKOFF_MAX_SECONDS="2")


def test_run_needs_a_broker() -> None:
    with pytest.raises(SettingsError, match="CHASSIS_BUS_URL is not set"):
        _ = load({}).bus


def test_on_rabbitmq_the_store_must_be_named() -> None:
    with pytest.raises(SettingsError, match="CHASSIS_INBOX_URL is not set"):
        _ = load({"CHASSIS_BUS_URL": "amqp://rabbitmq"}).inbox


@pytest.mark.parametrize("url", ["nats://nats:4222", "tls://nats:4222", "memory://"])
def test_a_bus_that_keeps_an_inbox_needs_no_other_store(url: str) -> None:
    assert load({"CHASSIS_BUS_URL": url}).inbox == url


def test_a_list_of_servers_is_one_url() -> None:
    assert load({"CHASSIS_BUS_URL": "nats://one:4222,nats://two:4222"}).bus.count("nats") == 2


# Secrets.

SECRET = "hunter2"  # noqa: S105 - a secret nobody keeps
WITH_SECRETS = [
    f"amqp://user:{SECRET}@rabbitmq:5672/vhost",
    f"nats://{SECRET}@nats:4222",
    f"nats://one:4222,nats://user:{SECRET}@two:4222",
    f"redis://:{SECRET}@redis:6379/0",
    f"postgresql://pg/db?user=u&password={SECRET}",
    f"postgresql://pg/db?sslPassword={SECRET}&user=u",
    f"amqp://user:{SECRET}/not/quoted@rabbitmq",
    f"amqp://user:{SECRET}#not?quoted@rabbitmq",
    f"amqp://user:a@{SECRET}@rabbitmq",
    f"amqp://user:[{SECRET}@rabbitmq",
    f"amqp://user:{SECRET}\n@rabbitmq",
]


@pytest.mark.parametrize("url", WITH_SECRETS)
def test_a_masked_url_has_no_secret_and_keeps_its_scheme(url: str) -> None:
    assert SECRET not in masked(url)
    assert masked(url).startswith(url.partition("://")[0] + "://")


@given(
    password=st.text(min_size=6, max_size=20).filter(
        lambda text: "," not in text and "*" not in text
    )
)
def test_no_password_survives_masking(password: str) -> None:
    assert masked(f"amqp://user:{password}@rabbitmq:5672") == "amqp://user:***@rabbitmq:5672"


@pytest.mark.parametrize(
    "url", ["amqp://rabbitmq:5672/vhost", "nats://one:4222,nats://two:4222", "memory://"]
)
def test_a_url_without_a_secret_is_shown_as_it_is(url: str) -> None:
    assert masked(url) == url


@pytest.mark.parametrize(
    "variable", ["CHASSIS_BUS_URL", "CHASSIS_INBOX_URL", "CHASSIS_OTLP_ENDPOINT"]
)
@pytest.mark.parametrize(
    "url", [*WITH_SECRETS, f"http://user:{SECRET}@collector", f"ftp://user:{SECRET}@host:x"]
)
def test_no_secret_is_in_an_error_a_repr_or_the_effective_settings(variable: str, url: str) -> None:
    try:
        settings = load({variable: url})
    except SettingsError as error:
        shown = "".join(traceback.format_exception(error))
    else:
        shown = repr(settings) + str(effective(settings))
    assert SECRET not in shown


def test_the_effective_settings_are_all_of_them_with_their_meaning() -> None:
    rows = {
        variable: (value, is_default)
        for variable, value, is_default, meaning in effective(load({}))
        if meaning
    }
    assert len(rows) == len(VARIABLES)
    assert rows["CHASSIS_MAX_ATTEMPTS"] == ("5", True)


def test_the_effective_settings_tell_what_was_set() -> None:
    rows = {row[0]: row[1:3] for row in effective(load({"CHASSIS_MAX_ATTEMPTS": "7"}))}
    assert rows["CHASSIS_MAX_ATTEMPTS"] == ("7", False)
