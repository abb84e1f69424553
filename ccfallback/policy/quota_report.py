"""The plan windows of each login as programs and people get them: one value, made in one place.

Times are Unix milliseconds. Nothing is in it that was not read, or does not follow from a reading.
"""

from collections.abc import Mapping

import msgspec

from ccfallback.config.model import Quota
from ccfallback.policy import quota
from ccfallback.policy.quota import Action, Grace, Overage, Reading, Slow


class WindowReport(msgspec.Struct, rename="camel"):
    """A window at a moment."""

    window: str
    title: str
    utilization: float | None
    """1 is all of it; `None` if no answer told it."""
    status: str
    resets_at: int | None
    full_at: int | None
    """When it will be full at its present rate; `None` if that can't be said."""
    utilization_at_reset: float | None
    read_at: int


class QuotaReport(msgspec.Struct, rename="camel"):
    """What is known of one login's plan, and what the policy does with its requests."""

    login: str
    """The hash of the credential; empty if the configuration has the primary's key."""
    read_at: int
    status: str
    claim: str
    windows: list[WindowReport]
    action: str
    """What the policy does with a request of the main conversation: `use` or `skip`."""
    spared: list[str]
    """The request classes that go to the fallbacks first."""
    why: str
    until: int | None
    """When that ends."""
    refused_until: int | None
    """When the plan serves again, if the primary has refused."""
    paid: bool
    """Whether the plan is used up and requests are served from paid usage."""
    overage: Overage
    slow: Slow
    grace: Grace
    fallback: str
    upgrade_paths: list[str]


def make_reports(readings: Mapping[str, Reading], rules: Quota, now: float) -> list[QuotaReport]:
    """The reports on all logins, the one that was read last first."""
    latest = sorted(readings.items(), key=lambda item: -item[1].at)
    return [make_report(login, reading, rules, now) for login, reading in latest]


def make_report(login: str, reading: Reading, rules: Quota, now: float) -> QuotaReport:
    """The report on a login at a moment."""
    main = quota.decide(reading, rules, now)
    spare = quota.decide(reading, rules, now, request_class=(*rules.spare_classes, "")[0])
    return QuotaReport(
        login=login,
        read_at=_milliseconds(reading.at),
        status=reading.status,
        claim=reading.claim,
        windows=[
            _report_window(name, reading, now)
            for name in sorted(reading.windows, key=lambda name: (quota.length(name) or 1e9, name))
        ],
        action=str(main.action),
        spared=list(rules.spare_classes) if spare.action is Action.SPARE else [],
        why=spare.why,
        until=_optional(spare.until),
        refused_until=_optional(quota.refused_until(reading, now)),
        paid=reading.uses_overage,
        overage=reading.overage,
        slow=reading.slow,
        grace=reading.grace,
        fallback=reading.fallback,
        upgrade_paths=list(reading.upgrade_paths),
    )


def _report_window(name: str, reading: Reading, now: float) -> WindowReport:
    window = quota.age(name, reading.windows[name], now)
    ahead = quota.forecast(name, window, now, reading.overage.period)
    return WindowReport(
        window=name,
        title=quota.title(name),
        utilization=window.utilization,
        status=window.status,
        resets_at=_optional(window.reset),
        full_at=None if ahead is None else _milliseconds(ahead.full_at),
        utilization_at_reset=None if ahead is None else ahead.at_reset,
        read_at=_milliseconds(window.at),
    )


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _optional(seconds: float | None) -> int | None:
    return None if seconds is None else _milliseconds(seconds)
