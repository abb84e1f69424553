"""The order in which the providers of a request are tried, before breakers admit them.

The chain, or the route of the request's class, comes first. What would use up a quota is put last
then. Of the others that are available, the one with a warm cache of the session is tried first.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from ccfallback.config.model import Provider
from ccfallback.policy.affinity import Decision, Stay

Decide = Callable[[Sequence[str], Mapping[str, str]], Decision | None]
"""Decides about a session, given the names of the providers that are available, in order, and why
others are not."""


def arrange(
    chain: tuple[Provider, ...],
    unavailable: Mapping[str, str],
    *,
    put_last: Collection[str] = (),
    decide: Decide | None = None,
) -> tuple[Provider, ...]:
    """Arrange the providers of a chain.

    A session never stays with a provider that is unavailable or put last, and never goes back to
    one. `unavailable` says why; `put_last` has labels, as it does. Providers that are not in the
    chain may be there by their names.
    """
    kept = tuple(each for each in chain if each.label not in put_last)
    decision = None
    if decide is not None:
        names = dict.fromkeys(each.name for each in kept if each.label not in unavailable)
        of_keys = {e.name: unavailable[e.label] for e in chain if e.label in unavailable}
        decision = decide(tuple(names), {**unavailable, **of_keys})
    if isinstance(decision, Stay):
        kept = tuple(sorted(kept, key=lambda each: each.name != decision.provider))
    return kept + tuple(each for each in chain if each.label in put_last)
