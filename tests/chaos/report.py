"""What a run was, what became of every event of it, and whether that is what was promised."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from tests.chaos.repeats import Effects
from tests.chaos.world import PREFETCH

MOST_IN_HAND = 2 * PREFETCH
"""Deliveries of a lost connection that still wait for a confirm, and the next connection's."""


@dataclass(frozen=True, slots=True)
class Report:
    """`good` are the ids of the events that can be handled, `poison` of the others."""

    bus: str
    store: str
    seed: int
    copies: int
    faults: Mapping[str, int]
    not_recovered: Sequence[str]
    """Faults after which some replica did not get ready again."""
    at_rest: bool
    """Whether the broker was empty, and nothing in hand, before patience was over."""
    good: AbstractSet[str]
    poison: AbstractSet[str]
    effects: Effects
    published: Mapping[str, AbstractSet[str]]
    """For each event the ids of the outgoing events that were handled because of it."""
    out_of_turn: Sequence[str]
    """Events that were handled while another of the same key was."""
    written: Counter[str] | None
    """How often handlers wrote each event into their own table, where the store has one."""
    dead: Sequence[Mapping[str, Any]]
    orderly_exits: int
    other_exits: int
    slowest_recovery: float
    first_events: Sequence[float] = ()
    """Seconds from each kill of a leading node to the next event; sorted."""

    @property
    def lost(self) -> list[str]:
        """Events that met no end: neither all their effects nor a dead letter."""
        lost = self.good - self.effects.handled | self.poison - self._explained_dead.keys()
        return sorted(lost if self.written is None else lost | self.good - self.written.keys())

    @property
    def written_twice(self) -> list[str]:
        return sorted(event for event, times in (self.written or {}).items() if times > 1)

    @property
    def outgoing_lost(self) -> list[str]:
        return sorted(self.good - self.published.keys())

    @property
    def outgoing_twice(self) -> list[str]:
        """Events that published under more than one id, so that the next inbox cannot tell."""
        return sorted(cause for cause, ids in self.published.items() if len(ids) > 1)

    @property
    def unexplained_dead(self) -> list[str]:
        """Dead letters beside one of each poisonous event that died of being tried too often."""
        explained = self._explained_dead
        others = [
            f"{_event(letter)}: {letter['reason']}, {letter['message']}"
            for letter in self.dead
            if _event(letter) not in explained or letter["reason"] != "attempts_exhausted"
        ]
        return others + [
            f"{event}: {times} dead letters" for event, times in explained.items() if times > 1
        ]

    @property
    def _explained_dead(self) -> Counter[str]:
        ids = (_event(letter) for letter in self.dead if letter["reason"] == "attempts_exhausted")
        return Counter(id_ for id_ in ids if id_ in self.poison)

    @property
    def broken(self) -> dict[str, Sequence[str]]:
        """The promises that were not kept, and by what; empty when all is well."""
        effects = self.effects
        most = effects.most_after_one_kill
        promises: dict[str, Sequence[str]] = {
            "lost": self.lost,
            "repeated otherwise": effects.unexplained,
            "repeated after one kill, more than were in hand": [str(most)]
            if most > MOST_IN_HAND
            else [],
            "twice at a keyed sink": effects.twice_at_a_keyed_sink,
            "twice in the database": self.written_twice,
            "outgoing events lost": self.outgoing_lost,
            "outgoing events under two ids": self.outgoing_twice,
            "out of turn": self.out_of_turn,
            "dead letters unexplained": self.unexplained_dead,
            "not recovered from": self.not_recovered,
            "not at rest": []
            if self.at_rest
            else ["the broker still held events, or a replica had some in hand"],
            "exits other than 0": [str(self.other_exits)] if self.other_exits else [],
        }
        return {promise: by for promise, by in promises.items() if by}


def _event(letter: Mapping[str, Any]) -> str:
    """The id of the event that died; its body says it too."""
    return str((letter["event"] or {}).get("user_id"))
