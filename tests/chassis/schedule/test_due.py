"""When a schedule is due: the same times in every replica, right in both changes of the clocks."""

from datetime import UTC, datetime, timedelta

import pytest

from chassis.schedule.due import cron, every

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


@pytest.mark.parametrize(
    ("period", "last", "following"),
    [
        ("1s", NOON, NOON + timedelta(seconds=1)),
        ("5m", NOON, NOON + timedelta(minutes=5)),
        ("2h", NOON, NOON + timedelta(hours=2)),
        ("1d", at("2026-03-10T00:00"), at("2026-03-11T00:00")),
        (timedelta(minutes=90), at("2026-03-10T12:00"), at("2026-03-10T13:30")),
    ],
)
def test_a_period_is_due_at_its_multiples(
    period: str | timedelta, last: datetime, following: datetime
) -> None:
    when = every(period)
    for now in (NOON, NOON + timedelta(microseconds=999_999)):
        assert (when.last(now), when.next(now)) == (last, following)


@pytest.mark.parametrize("period", ["", "5", "m", "5 m", "-5m", "0s", "5w", timedelta(0), "1.5h"])
def test_a_period_that_is_none_is_refused(period: str | timedelta) -> None:
    with pytest.raises(ValueError, match=r"period|too short"):
        every(period)


def test_a_cron_expression_is_read_on_the_clocks_of_its_zone() -> None:
    when = cron("0 3 * * *", "Europe/Berlin")
    assert when.next(at("2026-01-10T01:59:59")) == at("2026-01-10T02:00")
    assert when.next(at("2026-07-10T00:59:59")) == at("2026-07-10T01:00")
    assert when.last(at("2026-01-10T02:00")) == at("2026-01-10T02:00")
    assert when.last(at("2026-01-10T01:59:59")) == at("2026-01-09T02:00")


def test_a_time_that_the_clocks_leave_out_is_due_right_after_the_change() -> None:
    when = cron("30 2 * * *", "Europe/Berlin")
    change = at("2026-03-29T01:00")
    assert when.next(at("2026-03-28T12:00")) == change
    assert when.last(change) == change
    assert when.next(change) == at("2026-03-30T00:30")


def test_a_time_that_comes_twice_is_due_once() -> None:
    when = cron("30 2 * * *", "Europe/Berlin")
    first = at("2026-10-25T00:30")
    assert when.next(at("2026-10-24T12:00")) == first
    assert when.next(first) == at("2026-10-26T01:30")
    assert when.last(at("2026-10-25T12:00")) == first


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns", "UTC"])
@pytest.mark.parametrize(
    "expression", ["*/7 * * * *", "15 */5 * * *", "0 2 * * *", "59 23 28-31 * *"]
)
def test_last_and_next_agree_all_year(expression: str, zone: str) -> None:
    when = cron(expression, zone)
    now = at("2026-01-01T00:00")
    while now < at("2027-01-01T00:00"):
        last, following = when.last(now), when.next(now)
        assert last <= now < following
        assert when.next(last) == following
        now += timedelta(hours=37, minutes=11)


@pytest.mark.parametrize(
    ("expression", "zone", "says"),
    [
        ("nonsense", "UTC", "no cron expression"),
        ("0 3 * *", "UTC", "no cron expression"),
        ("0 3 31 2 *", "UTC", "cron expression|never due"),
        ("0 3 * * *", "Europe/Nowhere", "no time zone"),
        ("0 3 * * *", "../etc/passwd", "no time zone"),
    ],
)
def test_an_expression_that_is_none_is_refused(expression: str, zone: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        cron(expression, zone)
