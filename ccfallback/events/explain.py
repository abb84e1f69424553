"""Turn what the log says of one request into its story: who was asked or passed by, and why.

Nothing here raises. A log outlives the version that wrote it, may have lost the beginning of a
request to rotation, or may never have had all of it: what it can't say is in `unknown`.
"""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Final

from ccfallback.config.model import PRIMARY_NAME
from ccfallback.events import story
from ccfallback.events.explanation import (
    Attempt,
    Candidate,
    Cooldown,
    Explanation,
    Repair,
    Standing,
)
from ccfallback.events.repair_words import difference_of

END_EVENTS: Final = frozenset({"request.complete", "request.error"})

TOLD: Final = ("retry-after", "x-should-retry")
"""Headers by which our own answers tell the client whether, and when, to come again."""


def explain(records: Iterable[Mapping[str, Any]]) -> Explanation:
    """The story that the records of one request tell, oldest first."""
    return _Telling(list(records)).told()


class _Telling:
    """Reads the records one by one."""

    def __init__(self, records: list[Mapping[str, Any]]) -> None:
        self._records = records
        self._it = Explanation(next((i for r in records if (i := _text(r, "requestId"))), ""))
        self._chain: list[str] = []
        self._left_out: dict[str, str] = {}
        self._seen: set[str] = set()

    def told(self) -> Explanation:
        """All of it."""
        for record in self._records:
            event, data = _text(record, "event"), record.get("data")
            self._seen.add(event)
            self._read(event, data if isinstance(data, Mapping) else {}, record)
        self._place_the_rest()
        self._say_what_is_missing()
        return self._it

    def _read(self, event: str, data: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        match event:
            case "request.start":
                self._start(data, record)
            case "circuit_breaker.skip":
                skipped = Candidate(_text(data, "provider"), Standing.PASSED_BY)
                skipped.held = _cooldown(data)
                self._it.candidates.append(skipped)
            case "provider.attempt":
                self._asked(data, record)
            case "provider.success":
                self._attempt(data).ok = True
                self._candidate(data).standing = Standing.ANSWERED
            case "provider.failure" | "provider.timeout":
                self._failed(data)
            case "rectifier.attempt":
                self._latest(data).repair = Repair(
                    _text(data, "rectifier"),
                    _text(data, "changed"),
                    _text(data, "error"),
                    difference=difference_of(data),
                )
            case "rectifier.applied":
                for attempt in self._candidate(data).attempts:
                    made = attempt.repair
                    if made is not None and made.rectifier == _text(data, "rectifier"):
                        made.applied = True
            case "circuit_breaker.cooldown":
                self._candidate(data).set = _cooldown(data)
            case "circuit_breaker.reset":
                self._candidate(data).recovered = True
            case "request.complete" | "request.error" | "auth.failure":
                self._end(event, data, record)

    def _start(self, data: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        it = self._it
        it.began = _moment(record)
        it.model, it.bytes = _text(data, "model"), _integer(data, "bytes")
        it.stream = _boolean(data, "stream")
        chain, left_out = data.get("chain"), data.get("leftOut")
        if isinstance(chain, list):
            self._chain = [name for name in chain if isinstance(name, str)]
        if isinstance(left_out, Mapping):
            self._left_out = {str(name): _text(left_out, name) for name in left_out}

    def _asked(self, data: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        candidate = self._candidate(data)
        candidate.host, candidate.model = _text(data, "host"), _text(data, "model")
        number = _integer(data, "attempt") or 0
        candidate.attempts.append(Attempt(number, _text(data, "reason"), _moment(record)))

    def _failed(self, data: Mapping[str, Any]) -> None:
        candidate = self._candidate(data)
        if "attempt" not in data:
            # Not what an attempt came to, but what the answer did after it had begun.
            candidate.standing = Standing.BROKE_OFF
            latest = self._latest(data)
            latest.ok, latest.result = False, _text(data, "reason")
            latest.fault = _text(data, "fault")
            return
        attempt = self._attempt(data)
        attempt.ok = False
        attempt.fault, attempt.result = _text(data, "fault"), _text(data, "reason")
        attempt.said = _text(data, "error")
        attempt.timeout, attempt.timeout_seconds = _text(data, "timeout"), _number(data, "seconds")
        attempt.reset_at, attempt.reset_hint = _integer(data, "until"), _text(data, "hint")
        candidate.standing = Standing.FAILED

    def _candidate(self, data: Mapping[str, Any]) -> Candidate:
        """The provider's latest turn; a new one if it was only passed by so far."""
        name = _text(data, "provider")
        candidates = self._it.candidates
        for place in range(len(candidates) - 1, -1, -1):
            candidate = candidates[place]
            if candidate.provider != name:
                continue
            if candidate.standing is not Standing.PASSED_BY:
                return candidate
            break
        candidates.append(Candidate(name, Standing.UNDER_WAY))
        return candidates[-1]

    def _latest(self, data: Mapping[str, Any]) -> Attempt:
        """The provider's latest attempt."""
        attempts = self._candidate(data).attempts
        if not attempts:
            attempts.append(Attempt(_integer(data, "attempt") or 0, ""))
        return attempts[-1]

    def _attempt(self, data: Mapping[str, Any]) -> Attempt:
        """The attempt that a result is of, with what all results have."""
        number = _integer(data, "attempt") or 0
        attempts = self._candidate(data).attempts
        found = next((each for each in reversed(attempts) if each.number == number), None)
        if found is None:
            found = Attempt(number, "")
            attempts.append(found)
        took = _number(data, "ms")
        found.seconds = None if took is None else took / 1000
        found.status = _integer(data, "status")
        names = data.get("prevented")
        found.prevented = [str(name) for name in names] if isinstance(names, list) else []
        return found

    def _end(self, event: str, data: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        it = self._it
        it.status = _integer(data, "status")
        it.provider = _text(data, "provider") or None
        it.model = it.model or _text(data, "model")
        if it.stream is None:
            it.stream = _boolean(data, "stream")
        it.attempts = _integer(data, "attempts") or 0
        latency, ttft = _number(data, "latency"), _number(data, "ttft")
        it.seconds = None if latency is None else latency / 1000
        it.ttft = None if ttft is None else ttft / 1000
        ended = _moment(record)
        if it.began is None and ended is not None and latency is not None:
            it.began = round(ended - latency)
        names = {
            "input": "inputTokens",
            "output": "outputTokens",
            "cache_read": "cacheReadTokens",
            "cache_write": "cacheWriteTokens",
        }
        counts = {name: _integer(data, key) for name, key in names.items()}
        it.tokens = {name: count for name, count in counts.items() if count is not None}
        it.complete = event == "request.complete"
        it.client_saw = self._sight(data, record)
        if not it.complete and it.provider and (it.status or 0) >= 400:
            for candidate in it.candidates:
                if candidate.provider == it.provider and candidate.attempts:
                    candidate.standing = Standing.HANDED_ON

    def _sight(self, data: Mapping[str, Any], record: Mapping[str, Any]) -> str:
        """What the client got, in a few words."""
        it = self._it
        kind = _text(data, "error")
        if it.complete:
            return f"{it.status}, a whole {'stream' if it.stream else 'answer'}"
        if kind == "client disconnected":
            return "nothing more: it had left"
        if it.provider and (it.status or 0) >= 400:
            return f"{it.provider}'s own {it.status}, as it came"
        if it.provider:
            return "an answer that broke off; its connection was dropped, so that it asks again"
        words = _text(record, "message").partition(": ")[2]
        said = words or _text(record, "message")
        told = data.get("told")
        headers = told if isinstance(told, Mapping) else {}
        lines = [f"{name}: {_text(headers, name)}" for name in TOLD if _text(headers, name)]
        with_them = f" ({', '.join(lines)})" if lines else ""
        sort = f" {kind}" if kind else ""
        return f"{it.status}{sort}{with_them}: {said}"

    def _place_the_rest(self) -> None:
        """Add those whose turn never came."""
        it = self._it
        there = {candidate.provider for candidate in it.candidates}
        standing = Standing.NOT_NEEDED if END_EVENTS & self._seen else Standing.UNDER_WAY
        it.candidates += [Candidate(name, standing) for name in self._chain if name not in there]
        for name, why in self._left_out.items():
            place = 0 if name == PRIMARY_NAME else len(it.candidates)
            it.candidates.insert(place, Candidate(name, Standing.LEFT_OUT, why=why))

    def _say_what_is_missing(self) -> None:
        it = self._it
        if not it.attempts:
            it.attempts = sum(len(candidate.attempts) for candidate in it.candidates)
        if not self._records or "auth.failure" in self._seen:
            return
        levels = {_text(record, "level") for record in self._records}
        ended = bool(END_EVENTS & self._seen)
        # Refused before anybody was asked, a request has no beginning in the log.
        begun = "request.start" in self._seen or (ended and not it.candidates)
        if not levels & {"info", "debug"} and not begun:
            it.unknown.append(
                "only warnings: who answered, who was passed by and how long each took is "
                'logged from [log] level = "info" on'
            )
        elif not begun and "debug" not in levels:
            it.unknown.append("the beginning is gone: the log was rotated past it")
        if not ended and levels & {"info"}:
            it.unknown.append("how it ended: it is under way, or the server was killed")


def _cooldown(data: Mapping[str, Any]) -> Cooldown:
    return Cooldown(
        until=_integer(data, "cooldownUntil"),
        seconds=_number(data, "seconds"),
        since=_integer(data, "since"),
        model=_text(data, "model"),
        failures=_integer(data, "failures") or 0,
        reason=_text(data, "reason"),
        reset_hint=_text(data, "hint"),
        last_failure=_integer(data, "lastFailure"),
        probe=_boolean(data, "probe") or False,
    )


def _moment(record: Mapping[str, Any]) -> int | None:
    when = story.moment(record)
    return None if when is None else round(when.timestamp() * 1000)


def _text(table: Mapping[Any, Any], key: Any) -> str:
    return story.printable(table.get(key))


def _number(table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return value


def _integer(table: Mapping[str, Any], key: str) -> int | None:
    value = _number(table, key)
    return None if value is None else round(value)


def _boolean(table: Mapping[str, Any], key: str) -> bool | None:
    value = table.get(key)
    return value if isinstance(value, bool) else None
