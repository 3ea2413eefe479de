"""The end of the story: what the services counted, and what the ledger says."""

from collections import Counter
from collections.abc import Sequence

from dockyard.demo.actor import Actor
from dockyard.demo.ledger import Provider, balance
from dockyard.demo.orders import Orders
from dockyard.demo.show import Show
from dockyard.demo.signups import SignUps

OUTCOMES = {
    "duplicate": "handled before: not handled again",
    "retried": "the handler raised: again after a pause",
    "dead": "the last attempt failed: kept",
}
"""The outcomes of a delivery that the last step counts, and their meaning."""


def reckon(
    show: Show, provider: Provider, actors: Sequence[Actor], sign_ups: SignUps, orders: Orders
) -> None:
    """What `actors` counted, then what was published against what happened."""
    outcomes = [actor.outcomes() for actor in actors]
    show.step("What else the services counted, in messaging_client_consumed_messages_total")
    names = "".join(f"{actor.name:>13}" for actor in actors)
    show.output(f"{'outcome':<9}{names}   meaning")
    for outcome, meaning in OUTCOMES.items():
        counts = "".join(f"{counted[outcome]:>13}" for counted in outcomes)
        show.output(f"{outcome:<9}{counts}   {meaning}")
    ledger = balance(
        provider,
        sign_ups.published,
        sign_ups.takers,
        orders.placed,
        dead=Counter({actor.name: len(actor.dead_letters()) for actor in actors}),
        duplicates_ignored=sum(counted["duplicate"] for counted in outcomes),
    )
    show.note(
        f"{ledger.repeats_refused} calls repeated after the kills had no effect: "
        "the provider knew their idempotency keys"
    )
    show.last(f"ledger: {ledger}", good=ledger.balanced)
