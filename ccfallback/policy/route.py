"""The order in which the providers of a request are tried, before breakers admit them.

The chain, or the route of the request's class, comes first. What would use up a quota is put last
then. Of the others that are available, the one with a warm cache of the session is tried first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ccfallback.config.model import Provider
from ccfallback.policy.affinity import Decision, Stay

Decide = Callable[[Sequence[str]], Decision | None]
"""Decides about a session, given the names of the providers that may be tried, in order."""

CACHE = "cache"
"""Why a provider is tried after another one: that one has a warm cache of the session."""


@dataclass(frozen=True, slots=True)
class Order:
    """The providers of a request in the order in which they are tried."""

    providers: tuple[Provider, ...]
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a provider is tried later, or not at all, by its label."""
    decision: Decision | None = None
    """What was decided about the session."""


def arrange(
    chain: tuple[Provider, ...],
    is_available: Callable[[Provider], bool],
    *,
    left_out: Mapping[str, str] | None = None,
    put_last: Mapping[str, str] | None = None,
    decide: Decide | None = None,
) -> Order:
    """Arrange the providers of a chain.

    `left_out` and `put_last` say why, by the labels of the providers. A session never stays with
    such a provider, and never goes back to one.
    """
    reasons = {**(put_last or {}), **(left_out or {})}
    kept = tuple(each for each in chain if each.label not in reasons) if reasons else chain
    last = tuple(each for each in chain if each.label in (put_last or {}))
    last = tuple(each for each in last if each.label not in (left_out or {}))
    decision = None
    if decide is not None:
        decision = decide(tuple(dict.fromkeys(each.name for each in kept if is_available(each))))
    if isinstance(decision, Stay):
        stays = tuple(each for each in kept if each.name == decision.provider)
        before = kept[: kept.index(stays[0])]
        reasons |= {each.label: CACHE for each in before}
        kept = stays + tuple(each for each in kept if each.name != decision.provider)
    return Order(kept + last, reasons, decision)
