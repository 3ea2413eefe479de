"""The judge of the proof: what excuses a repeat, and what does not."""

from tests.chaos.diary import STOOD_STILL, Diary, Entry
from tests.chaos.repeats import Effects, Repeat, Turn, judged, out_of_turn

FIRST, SECOND = 1, 2
AT = 1_000.0


def _effects(diary: Diary) -> Effects:
    """Of an event whose effect happened at AT, and again by another process 30 s later."""
    return judged([Repeat("e", FIRST, AT, SECOND, AT + 30)], diary, {"e"}, [])


def test_a_kill_right_after_the_effect_explains_its_repeat() -> None:
    effects = _effects(Diary(killed={FIRST: AT + 0.1}))
    assert (len(effects.after_a_kill), effects.unexplained) == (1, [])


def test_a_kill_long_after_the_effect_explains_nothing() -> None:
    (told,) = _effects(Diary(killed={FIRST: AT + 10})).unexplained
    assert told == "e: by 1, 30.0 s later by 2; the first was killed (+10.0 s)"


def test_a_kill_of_the_other_process_explains_nothing() -> None:
    assert _effects(Diary(killed={SECOND: AT + 0.1})).unexplained


def test_while_the_store_is_away_completion_waits_for_it() -> None:
    outage = Entry(AT + 0.1, AT + 9.9, "restart store", outage=True)
    effects = _effects(Diary([outage], killed={FIRST: AT + 10}))
    assert (len(effects.after_a_kill), effects.unexplained) == (1, [])


def test_an_outage_explains_nothing_by_itself() -> None:
    assert _effects(Diary([Entry(AT, AT + 20, "restart store", outage=True)])).unexplained


def test_a_freeze_right_after_the_effect_explains_its_repeat() -> None:
    effects = _effects(Diary(frozen={FIRST: [Entry(AT + 0.1, AT + 14, "frozen")]}))
    assert (len(effects.after_a_freeze), effects.unexplained) == (1, [])


def test_a_freeze_long_before_or_after_the_effect_explains_nothing() -> None:
    for begun in (AT - 20, AT + 10):
        assert _effects(Diary(frozen={FIRST: [Entry(begun, begun + 14, "frozen")]})).unexplained


def test_a_machine_that_stood_still_for_long_explains_a_repeat_a_short_stop_does_not() -> None:
    assert _effects(Diary([Entry(AT + 1, AT + 8, STOOD_STILL)])).after_a_standstill
    assert _effects(Diary([Entry(AT + 1, AT + 3, STOOD_STILL)])).unexplained


def test_two_turns_of_one_key_at_a_time_are_found_unless_one_slept() -> None:
    turns = [Turn("a", AT, AT + 2, FIRST, "e-1"), Turn("a", AT + 1, AT + 3, SECOND, "e-2")]
    assert out_of_turn(turns, Diary()) == ["e-2"]
    assert out_of_turn(turns, Diary(frozen={FIRST: [Entry(AT + 0.5, AT + 1.5, "frozen")]})) == []


def test_turns_of_other_keys_and_after_each_other_are_in_order() -> None:
    turns = [
        Turn("a", AT, AT + 2, FIRST, "e-1"),
        Turn("b", AT, AT + 2, SECOND, "e-2"),
        Turn("a", AT + 2, AT + 3, 2, "e"),
    ]
    assert out_of_turn(turns, Diary()) == []
