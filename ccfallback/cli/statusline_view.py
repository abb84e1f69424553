"""The line for Claude Code's status line: which provider serves, which cool down.

Claude Code runs this after every message, so it is made to be quick. The server is asked, which
knows its chain and its cooldowns; no configuration is read and no library is loaded for what a few
lines do. It never fails: the line says what is wrong.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from time import monotonic, time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ccfallback import paths as places
from ccfallback.cli.chain_check import describe_check
from ccfallback.cli.file_options import Files
from ccfallback.cli.phrases import format_clock
from ccfallback.cli.running_server import (
    RunningServer,
    find_private_servers,
    find_registered_server,
    find_server_at,
)
from ccfallback.paths import Paths
from ccfallback.state import model_cooldowns

if TYPE_CHECKING:
    from ccfallback.state.checks import Summary

STDIN_WAIT: Final = 0.2
"""Seconds for the input from Claude Code, which it writes before we start."""

SERVER_WAIT: Final = 0.3
"""Seconds for the server's answer."""

LONGEST_INPUT: Final = 1 << 20
"""Bytes of the input that are kept; the rest is read and dropped."""

NAME: Final = "ccfallback"

WIDEST: Final = 60
"""Columns of the line."""

GREEN: Final = "32"
YELLOW: Final = "33"
RED: Final = "31"
DIM: Final = "2"

THEN_SECONDS: Final = 2.0
"""How long the program of `--then` may take."""

MOST_LEDGER: Final = 2 << 20
"""Bytes from the end of the ledger that are read: some ten thousand answers."""

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


class Part(NamedTuple):
    """A piece of the line, and its colour; of two, the one with the lower `rank` matters more."""

    text: str
    colour: str = ""
    rank: int = 0


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
    cost_today: float | None = msgspec.field(default=None, name="costToday")
    """US dollars; `None` without an answer today."""


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


def run(environ: Mapping[str, str], then: str = "", files: Files = Files()) -> int:
    """Print the line, after that of the command `then`; a closed pipe does not matter."""
    with suppress(OSError):
        os.write(1, f"{make(environ, then, places.resolve(*files, environ))}\n".encode())
    return 0


def make(environ: Mapping[str, str], then: str = "", paths: Paths | None = None) -> str:
    """The line, in colour where Claude Code or a terminal shows it."""
    paths = paths or places.resolve(environ=environ)
    given = read_input()
    other = Other(then, given) if then else None
    parts = describe(paths, environ, given).parts
    shows_colour = given.lstrip().startswith(b"{") or _is_terminal(1)
    line = join(parts, colour=shows_colour and not environ.get("NO_COLOR"))
    return line if other is None else other.join(line)


def status_line(paths: Paths, environ: Mapping[str, str], given: bytes) -> StatusLine:
    """What the line says; `given` is the input from Claude Code."""
    found = describe(paths, environ, given)
    found.line.text = join(found.parts)
    return found.line


class Described(NamedTuple):
    """The line in parts."""

    line: StatusLine
    parts: list[Part]


def describe(paths: Paths, environ: Mapping[str, str], given: bytes) -> Described:
    """What is worth a place on the line."""
    here = environ.get(BASE_URL, "")
    server = _find_server(paths, here)
    if server is None:
        line = StatusLine(running=False, url=None, serving=None, cooling=[], text="")
        return Described(line, [Part(f"✗ down: {_remedy(here)}", RED)])
    # Here, because the line needs it only while a server runs.
    from ccfallback.state.checks import quick_summary

    now, model = time(), model_name(given)
    until = model_cooldowns(paths, model) if model else {}
    chain = enabled_providers(server.page)
    chain.sort(key=lambda each: each.quota is not None and each.quota.action == "skip")
    serving, cooling = judge(chain, until, now)
    windows = next((each.quota.windows for each in chain if each.quota is not None), [])
    cost = cost_today(paths, now)
    remarks = [last_request(paths, serving, now)]
    if not is_same_server(here, server.url):
        remarks.insert(0, "up for `run` only" if server.is_private else _where(here))
    parts = [
        *format_line(serving, cooling, [remark for remark in remarks if remark], now),
        *format_windows(windows, now),
        *format_check(quick_summary(paths, [each.name for each in chain]), now),
        *([Part(f"${cost:.2f} today", rank=4)] if cost else []),
    ]
    line = StatusLine(
        running=True,
        url=server.url,
        serving=serving,
        cooling=[{"name": name, "until": round(end * 1000)} for name, end in cooling],
        text="",
        windows=windows,
        cost_today=cost,
    )
    return Described(line, parts)


def format_check(summary: "Summary | None", now: float) -> list[Part]:
    """What the last real requests have shown of the chain."""
    if summary is None:
        return []
    text = describe_check(summary, now)
    return [Part(text, YELLOW, rank=2) if summary.failed else Part(text, rank=4)]


def join(parts: Sequence[Part], *, colour: bool = False) -> str:
    """As many parts as there is room for, the important ones first; the first is always there."""
    kept = list(parts)
    while len(kept) > 1 and _width(kept) > WIDEST:
        # Of parts that matter equally, the last goes.
        kept.remove(max(reversed(kept[1:]), key=lambda part: part.rank))
    first, *others = kept
    room = WIDEST - len(NAME) - 1
    head = first.text if len(first.text) <= room else first.text[: room - 1] + "…"
    shown = [first._replace(text=head), *others]
    return f"{NAME} " + " · ".join(_paint(part) if colour else part.text for part in shown)


def _width(parts: Sequence[Part]) -> int:
    return len(NAME) + 1 + sum(len(part.text) + 3 for part in parts) - 3


def _paint(part: Part) -> str:
    return f"\x1b[{part.colour}m{part.text}\x1b[0m" if part.colour else part.text


class Other:
    """The line of another program, which gets the same input, and runs while ours is made."""

    def __init__(self, command: str, given: bytes) -> None:
        import subprocess

        from ccfallback.processes import NEW_SESSION

        self._given = given
        self._end = monotonic() + THEN_SECONDS
        self._process = subprocess.Popen(
            command,
            shell=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=NEW_SESSION,
        )

    def join(self, line: str) -> str:
        """Its output with our line at the end of its last one; ours alone if it fails."""
        import subprocess

        from ccfallback.processes import kill_session

        try:
            left = max(0.0, self._end - monotonic())
            output, _ = self._process.communicate(self._given, left)
        except subprocess.TimeoutExpired:
            kill_session(self._process)
            return line
        text = output.decode("utf-8", "replace").rstrip()
        return f"{text} · {line}" if text and self._process.returncode == 0 else line


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
) -> list[Part]:
    """Which provider serves, which one is back first, and what else there is to say."""
    if serving is None:
        # The safety valve: the one whose cooldown ends first is tried even now.
        head = "✗ all providers are cooling down" if cooling else "✗ no provider is enabled"
        parts = [Part(head, RED)]
    elif cooling or remarks:
        parts = [Part(f"! {serving}", YELLOW)]
    else:
        parts = [Part(f"✓ {serving}", GREEN)]
    parts += [Part(remark, YELLOW, 1) for remark in remarks]
    if cooling:
        name, end = min(cooling, key=lambda each: each[1])
        parts.insert(1, Part(f"{name} back {format_clock(end, now)}", DIM, 2))
    return parts


def format_windows(windows: Sequence[Window], now: float) -> list[Part]:
    """How much of the plan's windows is left, the scarcest first, and when one will be full."""
    parts: list[Part] = []
    for each in sorted(windows, key=lambda window: -(window.utilization or 0.0)):
        if each.utilization is None or not each.window.isalnum() or each.window == "overage":
            continue
        full = (each.full_at or 0.0) / 1000
        is_soon = full > now and (each.resets_at is None or full * 1000 < each.resets_at)
        ahead = f", full {format_clock(full, now)}" if is_soon else ""
        left = max(0.0, 1 - each.utilization)
        colour = RED if left <= 0.1 else YELLOW if left <= 0.25 or is_soon else ""
        rank = 3 if not parts else 5
        parts.append(Part(f"{each.window} {left * 100:.0f} % left{ahead}", colour, rank))
    return parts


class _Cost(msgspec.Struct):
    """What we need of a row of the ledger."""

    at: float
    cost: float | None = None


def cost_today(paths: Paths, now: float) -> float | None:
    """The dollars that answers have cost since midnight; `None` without an answer."""
    today = datetime.fromtimestamp(now)
    midnight = today.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    path = paths.state.with_name(f"spend-{today:%Y-%m}.jsonl")
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - MOST_LEDGER))
            lines = file.read().splitlines()
    except OSError:
        return None
    total = None
    for line in reversed(lines):
        try:
            row = _COST.decode(line)
        except (msgspec.DecodeError, RecursionError):
            continue
        if row.at < midnight:
            break
        total = (total or 0.0) + (row.cost or 0.0)
    return total


_COST: Final = msgspec.json.Decoder(_Cost)


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
    # Here, because the line needs them only while a server runs.
    from ccfallback.events.journal_reader import backwards
    from ccfallback.events.records import RequestEnd, RequestError

    for record, _ in islice(backwards(paths.log), MOST_RECORDS):
        end = record.data
        if not isinstance(end, RequestEnd) or record.is_side:
            continue
        if not now - RECENT < (record.written or 0.0) <= now:
            return ""
        if isinstance(end, RequestError):
            return "" if end.client_left else "last request failed: `ccfallback explain`"
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
            while not _is_terminal(descriptor) and (piece := os.read(descriptor, 65536)):
                if len(pieces) * 65536 < LONGEST_INPUT:
                    pieces.append(piece)
        except OSError:
            return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(STDIN_WAIT)
    return b"".join(pieces)


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


def _find_server(paths: Paths, here: str) -> RunningServer | None:
    """The server that this Claude Code uses, else the one that runs."""
    if _is_loopback(_host(here)) and (found := find_server_at(here, SERVER_WAIT)) is not None:
        return found
    # The configured port needs no look: every server registers itself.
    found = find_registered_server(paths, SERVER_WAIT)
    return found or next(iter(find_private_servers(paths, SERVER_WAIT)), None)


def _remedy(here: str) -> str:
    if _is_loopback(_host(here)):
        return "`ccfallback serve -d` starts it again"
    return "`ccfallback serve -d` starts it"


def _where(here: str) -> str:
    host = _host(here)
    return f"this session goes to {host}" if host else "this session bypasses it"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
