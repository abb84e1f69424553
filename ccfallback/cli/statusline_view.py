"""The line for Claude Code's status line: which provider serves, which cool down.

Claude Code runs this after every message, so it is made to be quick. The server is asked, which
knows its chain and its cooldowns; no configuration is read and no library is loaded for what a few
lines do. It never fails: the line says what is wrong.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from time import time
from typing import Final
from urllib.parse import urlsplit

import msgspec

from ccfallback import paths as places
from ccfallback.cli.phrases import format_ahead, format_clock
from ccfallback.cli.running_server import (
    RunningServer,
    find_private_servers,
    find_registered_server,
    find_server_at,
)
from ccfallback.events.journal_reader import backwards
from ccfallback.events.records import RequestEnd, RequestError
from ccfallback.paths import Paths
from ccfallback.state import model_cooldowns

STDIN_WAIT: Final = 0.2
"""Seconds for the input from Claude Code, which it writes before we start."""

SERVER_WAIT: Final = 0.3
"""Seconds for the server's answer."""

LONGEST_INPUT: Final = 1 << 20
"""Bytes of the input that are kept; the rest is read and dropped."""

BASE_URL: Final = "ANTHROPIC_BASE_URL"

FARTHEST: Final = 7 * 86400.0
"""Seconds; a cooldown that ends later was written by a wrong clock."""

RECENT: Final = 900.0
"""Seconds in which the last request is worth a word."""

MOST_RECORDS: Final = 200
"""Records that are read from the end of the log, however long it is."""


class Window(msgspec.Struct, rename="camel"):
    """A window of the primary's plan."""

    window: str
    utilization: float | None = None
    resets_at: float | None = None
    full_at: float | None = None


class StatusLine(msgspec.Struct):
    """The line, and what it says in parts."""

    running: bool
    url: str | None
    serving: str | None
    """The provider that the next request is sent to."""
    cooling: list[dict[str, str | int]]
    text: str
    windows: list[Window] = []
    """The windows of the primary's plan, if an answer has told them."""


class PlanUse(msgspec.Struct):
    """The windows of the login that was used last."""

    windows: list[Window] = []
    action: str = ""
    """`skip` if the primary is tried after the fallbacks."""


class Health(msgspec.Struct, rename="camel"):
    """A provider, as the server's `/health` page has it."""

    name: str
    available: bool = False
    disabled: bool = False
    cooldown_until: float | None = None
    quota: PlanUse | None = None


class _Model(msgspec.Struct):
    id: str = ""


class _Input(msgspec.Struct):
    """What we need of the input from Claude Code."""

    model: _Model = msgspec.field(default_factory=_Model)


def run(environ: Mapping[str, str]) -> int:
    """Print the line; a closed pipe does not matter."""
    line = status_line(places.resolve(environ=environ), environ, read_input()).text
    with suppress(OSError):
        os.write(1, f"{line}\n".encode())
    return 0


def status_line(paths: Paths, environ: Mapping[str, str], given: bytes) -> StatusLine:
    """The line; `given` is the input from Claude Code."""
    here = environ.get(BASE_URL, "")
    server = _find_server(paths, here)
    if server is None:
        text = f"ccfallback ✗ down: {_remedy(here)}"
        return StatusLine(running=False, url=None, serving=None, cooling=[], text=text)
    now, model = time(), model_name(given)
    until = model_cooldowns(paths, model) if model else {}
    chain = enabled_providers(server.page)
    chain.sort(key=lambda each: each.quota is not None and each.quota.action == "skip")
    serving, cooling = judge(chain, until, now)
    windows = next((each.quota.windows for each in chain if each.quota is not None), [])
    remarks = [last_request(paths, serving, now)]
    if server.is_private:
        remarks.append(f"up for `run` only (pid {server.pid}, port {urlsplit(server.url).port})")
    if not is_same_server(here, server.url):
        remarks.append(_where(here))
    return StatusLine(
        running=True,
        url=server.url,
        serving=serving,
        cooling=[{"name": name, "until": round(end * 1000)} for name, end in cooling],
        text=" · ".join(
            [
                format_line(serving, cooling, [remark for remark in remarks if remark], now),
                *format_windows(windows, now),
            ]
        ),
        windows=windows,
    )


def enabled_providers(page: Mapping[str, object]) -> list[Health]:
    """The enabled providers of a `/health` page, in the order of the chain."""
    try:
        found = msgspec.convert(page.get("providers"), list[Health])
    except msgspec.ValidationError:
        return []
    return [each for each in found if each.name.isprintable() and not each.disabled]


def judge(
    chain: Sequence[Health], until: Mapping[str, float], now: float
) -> tuple[str | None, list[tuple[str, float]]]:
    """The provider that is tried first, and those that cool down with the ends of their cooldowns.

    `until` has the cooldowns of the one model that Claude Code uses.
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


def format_line(
    serving: str | None, cooling: list[tuple[str, float]], remarks: Sequence[str], now: float
) -> str:
    """The text of the line."""
    if serving is None:
        # The safety valve: the one whose cooldown ends first is tried even now.
        head = "✗ all providers are cooling down" if cooling else "✗ no provider is enabled"
    else:
        head = f"{'!' if cooling or remarks else '✓'} {serving}"
    parts = [f"{name} back {format_ahead(end, now)}" for name, end in cooling]
    return " · ".join([f"ccfallback {head}", *parts, *remarks])


def format_windows(windows: Sequence[Window], now: float) -> list[str]:
    """How far the windows of the whole plan are used, and when one will be full."""
    parts = []
    for each in windows:
        if each.utilization is None or not each.window.isalnum() or each.window == "overage":
            continue
        full = (each.full_at or 0.0) / 1000
        is_soon = full > now and (each.resets_at is None or full * 1000 < each.resets_at)
        ahead = f", full at {format_clock(full, now)}" if is_soon else ""
        parts.append(f"{each.window} {each.utilization * 100:.0f} %{ahead}")
    return parts


def model_name(given: bytes) -> str:
    """The model that Claude Code uses, by the name that its requests have; empty if unknown."""
    try:
        model = msgspec.json.decode(given, type=_Input).model.id
    except (ValueError, RecursionError):
        return ""
    # A suffix such as [1m] is for Claude Code alone.
    return model.partition("[")[0]


def last_request(paths: Paths, serving: str | None, now: float) -> str:
    """A remark on the last request, if it failed or another provider than `serving` answered."""
    for record, _ in islice(backwards(paths.log), MOST_RECORDS):
        end = record.data
        if not isinstance(end, RequestEnd) or record.is_side:
            continue
        if not now - RECENT < (record.written or 0.0) <= now:
            return ""
        if isinstance(end, RequestError):
            return "" if end.client_left else "the last request failed, `ccfallback explain` why"
        if end.provider and end.provider.isprintable() and end.provider != serving:
            return f"last answer by {end.provider}"
        return ""
    return ""


def is_same_server(url: str, other: str) -> bool:
    """Whether two URLs lead to the same server, as far as their names say."""
    try:
        one, two = urlsplit(url), urlsplit(other)
        ports = (one.port or 80) == (two.port or 80)
    except ValueError:
        return False
    hosts = (one.hostname or "", two.hostname or "")
    return ports and (hosts[0] == hosts[1] or all(map(_is_loopback, hosts)))


def read_input(descriptor: int = 0) -> bytes:
    """What standard input has, without waiting for more; nothing from a terminal."""
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


def _find_server(paths: Paths, here: str) -> RunningServer | None:
    """The server that this Claude Code uses, else the one that runs."""
    if _is_loopback(_host(here)) and (found := find_server_at(here, SERVER_WAIT)) is not None:
        return found
    # The configured port needs no look: every server registers itself.
    found = find_registered_server(paths, SERVER_WAIT)
    return found or next(iter(find_private_servers(paths, SERVER_WAIT)), None)


def _remedy(here: str) -> str:
    if _is_loopback(_host(here)):
        return "Claude Code can't reach it, `ccfallback serve` starts it"
    return "`ccfallback serve` starts it"


def _where(here: str) -> str:
    host = _host(here)
    return f"this session goes to {host}" if host else "this session does not use it"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
