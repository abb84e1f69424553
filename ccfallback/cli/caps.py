"""Caps as commands show them: what is spent, what is left, and until when."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ccfallback.cli.phrases import format_until

if TYPE_CHECKING:
    from ccfallback.cli.session import Session
    from ccfallback.config.model import Config
    from ccfallback.policy.spend import Limit


def find_limits(session: "Session", config: "Config", now: float) -> "list[Limit]":
    """The caps of enabled providers and of tokens; none without, or with an unreadable ledger.

    What other servers have spent counts too if they share a state.
    """
    capped = [(each.name, "", each.cap) for each in config.active if each.cap.is_set]
    capped += [("", each.label, each.cap) for each in config.tokens if each.cap.is_set]
    if not capped:
        return []
    from ccfallback.policy.spend import Spent, limits, token_account
    from ccfallback.state import ledger
    from ccfallback.state.spent import find_spent_elsewhere

    state = session.paths.state
    sections = session.store.peek().sections if session.store.places is not None else {}
    sums = ledger.Sums()
    try:
        sums.add(ledger.read(ledger.ledger_path(state, ledger.month_of(now)))[0])
    except OSError:
        return []
    ends = ledger.period_ends(now)

    def spent(account: str) -> Spent:
        others = find_spent_elsewhere(sections, state, account, now)
        return sums.spent(account, now) + others

    return [
        limit
        for name, token, cap in capped
        for limit in limits(name, cap, spent(name or token_account(token)), ends, token=token)
    ]


def describe_reached(limits: "Iterable[Limit]", now: float) -> list[str]:
    """A sentence for each cap that is reached."""
    return [
        f"{limit.title} has reached its cap of {_amount(limit)}: "
        f"{'refused' if limit.token else 'skipped'} {format_until(limit.until, now)}"
        for limit in limits
        if limit.is_reached
    ]


def describe_cap(limit: "Limit", now: float) -> str:
    """A cap with what is spent of it."""
    from ccfallback.policy.spend import dollars

    if limit.is_reached:
        return describe_reached([limit], now)[0]
    spent = f"{limit.title} has cost {dollars(limit.spent)} of {_amount(limit)}"
    return f"{spent}, {dollars(limit.left)} left {format_until(limit.until, now)}"


def limit_json(limit: "Limit") -> dict[str, Any]:
    """A cap for `--json`: US dollars, Unix milliseconds."""
    from ccfallback.state.ledger import to_dollars

    return {
        "provider": limit.provider or None,
        "token": limit.token or None,
        "period": limit.period,
        "cap": to_dollars(limit.cap),
        "spent": to_dollars(limit.spent),
        "left": to_dollars(limit.left),
        "reached": limit.is_reached,
        "until": round(limit.until * 1000),
    }


def _amount(limit: "Limit") -> str:
    from ccfallback.policy.spend import dollars

    return f"{dollars(limit.cap)} a {limit.period}"
