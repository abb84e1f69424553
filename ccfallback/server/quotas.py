"""The windows of the primary's plan, as this server reads them and acts on them.

The readings are in the shared state, one for each login. If a window is used so far that the
configuration moves requests away, the primary comes after the fallbacks, so that it still answers
if none of them does.
"""

from typing import Final, NamedTuple

from msgspec import UNSET

from ccfallback.config.model import Config, Provider, Quota
from ccfallback.events import records as events
from ccfallback.events.records import milliseconds
from ccfallback.messages.reset_hints import UNIFIED
from ccfallback.policy import quota
from ccfallback.policy.fingerprints import fingerprint
from ccfallback.policy.quota import Action, Reading
from ccfallback.policy.quota_report import QuotaReport, make_reports
from ccfallback.server.breakers import Breakers
from ccfallback.server.context import Context
from ccfallback.server.hints import Hints
from ccfallback.state.quotas import QUOTAS, login, quota_key, readings_for
from ccfallback.wire.headers import RawHeaders, select, text_headers

SAME_SECONDS: Final = 5.0
"""For so long an answer with the same headers as the one before says nothing new."""

_MOST_LOGINS: Final = 64
_PREFIX: Final = UNIFIED.encode()


class _Last(NamedTuple):
    """The last headers of a login, and when they were read."""

    headers: RawHeaders
    at: float


class Moved(NamedTuple):
    """A provider that comes after the others, and why."""

    provider: Provider
    why: str
    until: float | None


class Quotas:
    """The plan windows of all logins that this server has seen."""

    def __init__(self, breakers: Breakers) -> None:
        self._breakers = breakers
        self._last: dict[str, _Last] = {}
        self._switched: dict[str, frozenset[str]] = {}
        """The windows for which requests go elsewhere, by login, as the log says."""
        self._returned: dict[str, tuple[float, set[str]]] = {}
        """The sessions that have returned since a moment, by login."""
        self._returning_until: float | None = None
        """When the last login's sessions have returned; `None` before the state was looked at."""

    def note(self, provider: Provider, headers: RawHeaders, context: Context) -> None:
        """Keep what an answer of the primary says of its plan, if it says anything."""
        found = select(headers, _is_of_plan)
        if not found:
            return
        now, rules = self._breakers.clock(), context.config.quota
        key = _key(provider, context)
        last = self._last.pop(key, None)
        if last is not None and last.headers == found and 0 <= now - last.at < SAME_SECONDS:
            self._last[key] = last
            return
        self._last[key] = _Last(found, now)
        if len(self._last) > _MOST_LOGINS:
            del self._last[next(iter(self._last))]
        new = quota.read_quota(text_headers(found), now)
        if new is None:
            return
        old = self._breakers.entry(QUOTAS, key)
        reading = quota.add_reading(old, new, rules)
        self._breakers.put(QUOTAS, key, reading)
        if old is None or _shown(old) != _shown(reading):
            # A person who looks now sees it.
            self._breakers.hurry()
        if self._returning_until is not None:
            self._returning_until = max(self._returning_until, quota.returned_by(reading))
        self._log_reading(provider, key, new, context.id)
        self._log_switch(provider, key, reading, rules, context.id)

    def may_move(self, config: Config) -> bool:
        """Whether any provider may come after the others: something is configured for that, or a
        login was refused lately.
        """
        if self._returning_until is None:
            readings = self._breakers.entries(QUOTAS).values()
            self._returning_until = max(map(quota.returned_by, readings), default=0.0)
        if self._returning_until and self._breakers.clock() < self._returning_until:
            return True
        return quota.is_active(config.quota)

    def find_moved(
        self, providers: tuple[Provider, ...], context: Context, hints: Hints, model: str
    ) -> list[Moved]:
        """The primary, or the keys of it, that come after the other providers."""
        if len(providers) == 1 or not self.may_move(context.config):
            return []
        now = self._breakers.clock()
        found = (
            self._find_reason(provider, context, hints, model, now)
            for provider in providers
            if provider.primary
        )
        return [each for each in found if each is not None]

    def _find_reason(
        self, provider: Provider, context: Context, hints: Hints, model: str, now: float
    ) -> Moved | None:
        """Why a request goes to others first; `None` if it does not."""
        key, rules = _key(provider, context), context.config.quota
        reading = self._breakers.entry(QUOTAS, key)
        if reading is None:
            return None
        self._log_switch(provider, key, reading, rules, context.id)
        decision = quota.decide(reading, rules, now, model=model, request_class=hints.request_class)
        if decision.action is not Action.USE:
            return Moved(provider, decision.why, decision.until)
        spread = quota.returns(reading, now)
        if spread is None:
            self._returned.pop(key, None)
            return None
        since, seconds = spread
        began, sessions = self._returned.get(key, (since, set()))
        if began != since:
            sessions = set()
        self._returned[key] = since, sessions
        if quota.may_return(since, seconds, now, sessions, hints.session):
            sessions.add(hints.session)
            return None
        why = "its plan is usable again, and sessions return to it one after the other"
        return Moved(provider, why, since + seconds)

    def reports(self, config: Config) -> list[QuotaReport]:
        """The windows of each login of the primary, the one that was read last first."""
        readings = readings_for(self._breakers.entries(QUOTAS), fingerprint(config.primary))
        return make_reports(readings, config.quota, self._breakers.clock())

    def _log_reading(self, provider: Provider, key: str, reading: Reading, request: str) -> None:
        recorder = self._breakers.recorder
        if not recorder.wants("debug"):
            return
        used = {
            name: window.utilization
            for name, window in reading.windows.items()
            if window.utilization is not None
        }
        words = ", ".join(f"{quota.title(name)} {each * 100:.0f} %" for name, each in used.items())
        recorder.log(
            events.QuotaReading(
                provider=provider.name,
                key=provider.key.number or UNSET,
                login=login(key) or None,
                status=reading.status or None,
                utilization=used,
            ),
            f"{provider.label}: {words or reading.status}",
            request,
        )

    def _log_switch(
        self, provider: Provider, key: str, reading: Reading, rules: Quota, request: str
    ) -> None:
        """Log where requests begin or cease to go elsewhere because of a window."""
        before = self._switched.get(key, frozenset())
        over = quota.switched_windows(reading, rules, self._breakers.clock())
        if over.keys() == before:
            return
        self._switched[key] = frozenset(over)
        if len(self._switched) > _MOST_LOGINS:
            del self._switched[next(iter(self._switched))]
        for name in sorted(over.keys() ^ before):
            decision, title = over.get(name), quota.title(name)
            if decision is None:
                message = f"{provider.label} is used again: the {title} allows it"
            else:
                message = f"{provider.label} is skipped: {decision.why}"
            self._breakers.recorder.log(
                events.QuotaSwitch(
                    provider=provider.name,
                    key=provider.key.number or UNSET,
                    login=login(key) or None,
                    window=name,
                    to="primary" if decision is None else "fallbacks",
                    utilization=None if decision is None else decision.utilization,
                    until=None if decision is None else milliseconds(decision.until),
                ),
                message,
                request,
            )


def _shown(reading: Reading) -> list[tuple[str, str, float | None]]:
    """What a person sees of the windows."""
    return [
        (name, each.status, None if each.utilization is None else round(each.utilization, 2))
        for name, each in reading.windows.items()
    ]


def _is_of_plan(name: bytes) -> bool:
    return name.startswith(_PREFIX)


def _key(provider: Provider, context: Context) -> str:
    """The name under which the reading of a request's login is kept."""
    return quota_key(fingerprint(provider), context.hash_credential(provider))
