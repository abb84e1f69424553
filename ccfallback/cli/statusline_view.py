"""One line that says who serves Claude Code now, for its status line.

Claude Code runs this after every message, so it is made to be quick: the server is asked, which
knows its chain and its cooldowns, and no library is loaded for what a few lines do. It never fails:
whatever is wrong is what the line says.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from time import time
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ccfallback import paths as places
from ccfallback.cli.phrases import format_ahead
from ccfallback.cli.running_server import RunningServer, find_registered_server, find_server_at
from ccfallback.events.journal_reader import backwards
from ccfallback.paths import Paths
from ccfallback.state import model_cooldowns

STDIN_WAIT: Final = 0.2
"""Seconds for what Claude Code has to say, which it has said before we start."""

SERVER_WAIT: Final = 0.3
"""Seconds for the server's answer."""

LONGEST_INPUT: Final = 1 << 20
"""Bytes that are kept of it; the rest is read and forgotten."""

BASE_URL: Final = "ANTHROPIC_BASE_URL"

FARTHEST: Final = 7 * 86400.0
"""Seconds; a cooldown that ends later was written by a wrong clock."""


RECENT: Final = 900.0
"""Seconds for which the last request is news."""

LOOKED_AT: Final = 200
"""Records at the end of the log."""


class _Model(msgspec.Struct):
    id: str = ""


class _Given(msgspec.Struct):
    """What is of use here of all that Claude Code tells its status line."""

    model: _Model = msgspec.field(default_factory=_Model)


class Standing(msgspec.Struct, rename="camel"):
    """A provider, as the server tells of it."""

    name: str
    available: bool = False
    disabled: bool = False
    cooldown_until: float | None = None


def glance(paths: Paths, environ: Mapping[str, str], given: bytes) -> dict[str, Any]:
    """What the line says, in parts and as `text`; `given` is what Claude Code told."""
    here = environ.get(BASE_URL, "")
    found = _server(paths, here)
    if found is None:
        running: dict[str, Any] = {"running": False, "url": None, "serving": None, "cooling": []}
        return {**running, "text": f"ccfallback ✗ down: {_remedy(here)}"}
    now, model = time(), model_of(given)
    until = model_cooldowns(paths, model) if model else {}
    serving, cooling = standing(listed(found.page), until, now)
    remarks = [last_request(paths, serving, now)]
    if not same_place(here, found.url):
        remarks.append(_where(here))
    return {
        "running": True,
        "url": found.url,
        "serving": serving,
        "cooling": [{"name": name, "until": round(end * 1000)} for name, end in cooling],
        "text": told(serving, cooling, [remark for remark in remarks if remark], now),
    }


def listed(page: Mapping[str, Any]) -> list[Standing]:
    """The chain, as the server's page of health has it."""
    try:
        found = msgspec.convert(page.get("providers"), list[Standing])
    except msgspec.ValidationError:
        return []
    return [each for each in found if each.name.isprintable() and not each.disabled]


def standing(
    chain: Sequence[Standing], until: Mapping[str, float], now: float
) -> tuple[str | None, list[tuple[str, float]]]:
    """Who is asked first, and who cools down until when, in the order of the chain.

    `until` has the cooldowns of the one model that is asked for.
    """
    serving, cooling = None, []
    for each in chain:
        ends = [until.get(each.name, 0.0)]
        if not each.available:
            ends.append((each.cooldown_until or 0.0) / 1000)
        end = max(end if end - now <= FARTHEST else 0.0 for end in ends)
        if end > now:
            cooling.append((each.name, end))
        elif each.available and serving is None:
            serving = each.name
    return serving, cooling


def told(
    serving: str | None, cooling: list[tuple[str, float]], remarks: Sequence[str], now: float
) -> str:
    """The line."""
    if serving is None:
        # The one that is back first is asked even now, because an answer comes first.
        head = "✗ all cool down" if cooling else "✗ no provider is enabled"
    else:
        head = f"{'!' if cooling or remarks else '✓'} {serving}"
    parts = [f"{name} back {format_ahead(end, now)}" for name, end in cooling]
    return " · ".join([f"ccfallback {head}", *parts, *remarks])


def model_of(given: bytes) -> str:
    """The model that Claude Code says it uses, as its requests name it; empty if it does not."""
    try:
        model = msgspec.json.decode(given, type=_Given).model.id
    except (ValueError, RecursionError):
        return ""
    # A mark such as [1m] is for Claude Code alone.
    return model.partition("[")[0]


def last_request(paths: Paths, serving: str | None, now: float) -> str:
    """What the last request tells that the chain does not: it failed, or another one answered."""
    for record, _ in islice(backwards(paths.log), LOOKED_AT):
        event, level = record.get("event"), record.get("level")
        # Side endpoints are logged as debug: nobody waits for them.
        if event not in ("request.complete", "request.error") or level == "debug":
            continue
        if not now - RECENT < _written(record) <= now:
            return ""
        if event == "request.error":
            # As info where the client went away, which is nobody's failure.
            return "" if level == "info" else "the last request failed, `ccfallback explain` why"
        data = record.get("data")
        provider = data.get("provider") if isinstance(data, dict) else None
        strange = not isinstance(provider, str) or not provider.isprintable()
        return "" if strange or provider == serving else f"last answer by {provider}"
    return ""


def _written(record: Mapping[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(record.get("timestamp"))).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def same_place(url: str, other: str) -> bool:
    """Whether two URLs lead to the same listener, as far as names tell."""
    try:
        one, two = urlsplit(url), urlsplit(other)
        ports = (one.port or 80) == (two.port or 80)
    except ValueError:
        return False
    hosts = (one.hostname or "", two.hostname or "")
    return ports and (hosts[0] == hosts[1] or all(map(_is_loopback, hosts)))


def read_input(descriptor: int = 0) -> bytes:
    """What standard input has, without waiting for more: nothing from a terminal."""
    pieces: list[bytes] = []

    def read() -> None:
        try:
            while not os.isatty(descriptor) and (piece := os.read(descriptor, 65536)):
                if len(pieces) * 65536 < LONGEST_INPUT:
                    pieces.append(piece)
        except OSError:
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(STDIN_WAIT)
    return b"".join(pieces)


def run(environ: Mapping[str, str]) -> int:
    """Print the line and be done; a reader that has gone does not matter."""
    line = glance(places.resolve(environ=environ), environ, read_input())["text"]
    with suppress(OSError):
        os.write(1, f"{line}\n".encode())
    return 0


def _server(paths: Paths, here: str) -> RunningServer | None:
    """The server that this Claude Code talks to, else the one that runs."""
    if _is_loopback(_host(here)) and (found := find_server_at(here, SERVER_WAIT)) is not None:
        return found
    # No look at the configured port: a server sees to it that its note is there.
    return find_registered_server(paths, SERVER_WAIT)


def _remedy(here: str) -> str:
    if _is_loopback(_host(here)):
        return "Claude Code can't reach it, `ccfallback serve` starts it"
    return "`ccfallback serve` starts it"


def _where(here: str) -> str:
    host = _host(here)
    return f"this session goes to {host}" if host else "this session does not come here"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
