"""Lines of a log, for the commands that read it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec


def line(event: str, at: float, level: str = "info", request: str = "", **data: Any) -> bytes:
    """A line of the log."""
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    record = {
        "timestamp": when.replace("+00:00", "Z"),
        "level": level,
        "event": event,
        "message": f"{event} happened",
        "requestId": request or None,
        "data": data,
    }
    return msgspec.json.encode(record) + b"\n"


def answered(
    at: float, provider: str, latency: float, *, ttft: float = 400.0, request: str = "ccr-1_abcdefg"
) -> list[bytes]:
    """The lines of a request that the first attempt answered; times in milliseconds."""
    end: dict[str, Any] = {
        "provider": provider,
        "model": "claude-opus-5-5",
        "status": 200,
        "latency": latency,
        "ttft": ttft,
        "attempts": 1,
        "inputTokens": 10,
        "outputTokens": 200,
        "cacheReadTokens": 4000,
        "cacheWriteTokens": 90,
        "stream": True,
    }
    return [
        line("request.start", at, request=request, model="claude-opus-5-5"),
        line("provider.attempt", at, request=request, provider=provider, attempt=1),
        line("provider.success", at, request=request, provider=provider, attempt=1),
        line("request.complete", at, request=request, **end),
    ]


def failed_attempt(at: float, provider: str, reason: str) -> list[bytes]:
    """The lines of an attempt that failed."""
    event = "provider.timeout" if reason.endswith("timeout") else "provider.failure"
    return [
        line("provider.attempt", at, provider=provider, attempt=1),
        line(event, at, "warn", provider=provider, attempt=1, reason=reason),
    ]


def unanswered(at: float, status: int = 502, request: str = "ccr-1_abcdefg") -> bytes:
    """The line of a request that no provider answered."""
    data: dict[str, Any] = {
        "provider": None,
        "model": "claude-opus-5-5",
        "status": status,
        "latency": 1200.0,
        "ttft": None,
        "attempts": 2,
        "error": "client disconnected" if status == 499 else "fallback_exhausted",
    }
    return line("request.error", at, "info" if status == 499 else "warn", request, **data)


def day(now: float) -> Iterator[bytes]:
    """A day with a bad hour: 240 answers, 12 of them by a fallback, 2 failures, one client left."""
    for number in range(240):
        at = now - 86400 + number * 360
        bad = 120 <= number < 132
        if bad:
            yield from failed_attempt(at, "anthropic-primary", "529 overloaded_error")
        provider = "one" if bad else "anthropic-primary"
        yield from answered(at, provider, 2000.0 + 50 * (number % 40), ttft=300.0 + number)
    yield from failed_attempt(now - 7200, "one", "first_byte timeout")
    yield unanswered(now - 7200)
    yield unanswered(now - 7100)
    yield unanswered(now - 7000, 499)


def write(path: Path, lines: Iterator[bytes] | list[bytes]) -> None:
    """Write them as the log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
