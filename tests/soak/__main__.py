"""The real proxy under mixed faults at full load: is a turn lost, an answer wrong, does it grow?

`python -m tests.soak --minutes 30 --clients 40` starts `ccfallback serve` and three upstreams in
processes of their own, asks as Claude Code asks and tries again as it does, and reports. It exits
with 1 when a turn is lost, an answer is not the one that was asked for, or something grows.
"""

import argparse
import asyncio
import math
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from secrets import token_hex
from statistics import linear_regression, variance
from typing import Any, NamedTuple

import httpx
import msgspec

from ccfallback.messages.assemble import to_message
from ccfallback.state.file import StateFile

TRIES = 11
"""Claude Code's, in all."""

LONGEST_WAIT = 60.0
"""Seconds of `retry-after` for which it waits; at more, it gives up."""

UNANSWERED = " before an answer"
"""The end of an error's kind, if nothing of the answer had come."""

RETRIED = frozenset({401, 408, 409, 429, 500, 501, 502, 503, 504, 529})
RESET_SECONDS = 0.1

SAMPLES = 720
"""Of the proxy's size."""

WARM_UP = 0.2
"""The share of the time after which growth counts: pools and caches are filled by then."""


@dataclass
class Seen:
    """What the clients have seen."""

    requests: int = 0
    turns: int = 0
    failovers: int = 0
    tried_again: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    providers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """Requests without a whole answer, by the kind of the error."""

    def add(self, other: "Seen") -> None:
        """Add what other clients have seen."""
        for each in fields(self):
            mine = getattr(self, each.name)
            mine += getattr(other, each.name)
            setattr(self, each.name, mine)


class Size(NamedTuple):
    """How large the proxy was."""

    seconds: float
    """Since the start."""
    memory: float
    """Resident, in MB."""
    files: int
    """Open descriptors."""


class Slope(NamedTuple):
    """How the memory changed in the second half of the time."""

    hourly: float
    """MB an hour."""
    error: float
    """The standard error of that."""
    noise: float
    """MB by which the samples lie beside the line: their standard deviation."""


def slope(sizes: Sequence[Size]) -> Slope:
    """The line through the second half of the samples."""
    half = sizes[len(sizes) // 2 :]
    if len(half) < 3:
        return Slope(0.0, 0.0, 0.0)
    hours, memory = [each.seconds / 3600 for each in half], [each.memory for each in half]
    line = linear_regression(hours, memory)
    rest = [y - line.intercept - line.slope * x for x, y in zip(hours, memory, strict=True)]
    noise = math.sqrt(sum(each**2 for each in rest) / (len(rest) - 2))
    return Slope(line.slope, noise / math.sqrt(variance(hours) * (len(hours) - 1)), noise)


@contextmanager
def started(*command: str) -> Iterator["subprocess.Popen[str]"]:
    """A Python process, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def address(process: "subprocess.Popen[str]") -> str:
    """The first URL that it prints."""
    assert process.stdout is not None
    for line in process.stdout:
        if match := re.search(r"http://\S+", line):
            return match[0]
    raise SystemExit("it did not start")


def measure_size(pid: int, began: float) -> Size:
    """How large it is; nothing where the system does not say."""
    root, seconds = Path(f"/proc/{pid}"), time.monotonic() - began
    if not root.exists():
        return Size(seconds, 0.0, 0)
    match = re.search(r"VmRSS:\s+(\d+)", (root / "status").read_text())
    memory = int(match[1]) / 1024 if match else 0.0
    return Size(seconds, memory, len(list((root / "fd").iterdir())))


def said(response: httpx.Response, body: bytes, *, stream: bool) -> str:
    """The text of a whole answer. Raises where it is not an answer."""
    message: dict[str, Any] = msgspec.json.decode(to_message(body) if stream else body)
    if message.get("stop_reason") != "end_turn":
        raise ValueError(f"ended with {message.get('stop_reason')}")
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


async def ask(client: httpx.AsyncClient, url: str, seen: Seen, number: int) -> None:
    """One turn: asked until it is answered or Claude Code would give up."""
    nonce, stream = f"nonce-{token_hex(16)}", number % 3 != 0
    filler = "x" * (50_000 if number % 10 == 0 else 500)
    asked = {
        "model": f"claude-{number % 5}",
        "max_tokens": 100,
        "stream": stream,
        "messages": [{"role": "user", "content": f"{filler} say {nonce}"}],
    }
    began, why, told = time.monotonic(), "", 0.0
    for again in range(TRIES):
        if again:
            seen.tried_again += 1
            await asyncio.sleep(told or min(0.5 * 2 ** (again - 1), 32))
            told = 0.0
        seen.requests += 1
        has_begun = False
        try:
            async with client.stream("POST", f"{url}/v1/messages", json=asked) as response:
                has_begun = True
                body = await response.aread()
        except httpx.HTTPError as error:
            why = type(error).__name__ if has_begun else f"{type(error).__name__}{UNANSWERED}"
            seen.errors[why] += 1
            continue
        if response.status_code != 200:
            why = f"{response.status_code} {body[:300]!r}"
            told = float(response.headers.get("retry-after", 0))
            is_final = response.headers.get("x-should-retry") == "false"
            if response.status_code in RETRIED and not is_final and told <= LONGEST_WAIT:
                continue
            break
        if int(response.headers["x-ccfallback-attempts"]) > 1:
            seen.failovers += 1
        seen.providers[response.headers["x-ccfallback-provider"]] += 1
        try:
            text = said(response, body, stream=stream)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        if text != f"wrong if cut: {nonce}":
            seen.wrong.append(f"{text[:100]!r} instead of {nonce}, {body[-200:]!r}")
        seen.turns += 1
        seen.seconds.append(time.monotonic() - began)
        return
    seen.lost.append(why)


async def load(
    url: str, pid: int, state: Path, minutes: float, clients: int
) -> tuple[Seen, list[Size]]:
    """Ask for so long; what was seen, and how large the proxy was meanwhile."""
    seen, began = Seen(), time.monotonic()
    until = began + minutes * 60
    sizes: list[Size] = []

    async def one(start: int) -> None:
        # Some keep their connection, some come anew each time.
        limits = httpx.Limits(max_keepalive_connections=0 if start % 4 == 0 else 1)
        async with httpx.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:
            number = start
            while time.monotonic() < until:
                await ask(client, url, seen, number)
                number += clients

    async def watch() -> None:
        while True:
            sizes.append(measure_size(pid, began))
            await asyncio.sleep(max(minutes * 60 / SAMPLES, 0.2))

    async def reset() -> None:
        # As `breaker reset --all` does: else a failing provider is soon skipped.
        while True:
            await asyncio.sleep(RESET_SECONDS)
            await asyncio.to_thread(StateFile(state).update, lambda _states: {})

    watcher, resetter = asyncio.create_task(watch()), asyncio.create_task(reset())
    await asyncio.gather(*(one(number) for number in range(clients)))
    watcher.cancel()
    resetter.cancel()
    await asyncio.sleep(2)
    sizes.append(measure_size(pid, began))
    return seen, sizes


def report(seen: Seen, sizes: Sequence[Size], minutes: float) -> bool:
    """Tell what was seen; whether all is well."""
    warm = sizes[int(len(sizes) * WARM_UP)]
    last = sizes[-1]
    # Fragmentation does not count as growth; a leak of a kilobyte a request does.
    grew = last.memory > warm.memory + max(16.0, seen.requests / 1024)
    grew = grew or last.files > warm.files + 16
    line, files = slope(sizes), [each.files for each in sizes[len(sizes) // 2 :]]
    times = sorted(seen.seconds) or [0.0]
    lines = [
        f"{minutes:g} min: {seen.requests} requests, {seen.turns} turns, "
        f"{len(seen.seconds) / (minutes * 60):.0f} a second",
        f"failovers {seen.failovers}, retries of the client {seen.tried_again}",
        f"answered by {dict(seen.providers)}",
        f"seconds a turn: p50 {times[len(times) // 2]:.3f}, "
        f"p99 {times[len(times) * 99 // 100]:.3f}, longest {times[-1]:.3f}",
        f"memory: {sizes[0].memory:.1f} MB at the start, {warm.memory:.1f} warm, "
        f"{last.memory:.1f} at the end",
        f"memory in the second half: {line.hourly:+.2f} MB an hour, standard error "
        f"{line.error:.2f}, noise {line.noise:.2f} MB",
        f"descriptors: {sizes[0].files} at the start, {warm.files} warm, {last.files} at the end, "
        f"{min(files)} to {max(files)} in the second half",
        f"lost turns: {len(seen.lost)} {seen.lost[:3]}",
        f"wrong answers: {len(seen.wrong)} {seen.wrong[:3]}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return not (seen.lost or seen.wrong or grew or not seen.turns)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstreams = [
            address(stack.enter_context(started("-m", "tests.soak.upstream", *words)))
            for words in (
                ("anthropic", "0.5", str(given.seed)),
                ("openai", "0.3", str(given.seed + 1)),
                ("anthropic", "0", str(given.seed + 2)),
            )
        ]
        config = folder / "config.toml"
        config.write_text(
            f'[primary]\nbase_url = "{upstreams[0]}"\n[breaker]\nmax_cooldown = 3\n'
            f'[[providers]]\nname = "translated"\nbase_url = "{upstreams[1]}"\n'
            f'format = "openai"\napi_key = "k"\nmodel_mapping = {{ "*" = "m" }}\n'
            f'[[providers]]\nname = "healthy"\nbase_url = "{upstreams[2]}"\napi_key = "k"\n'
        )
        config.chmod(0o600)
        files = ("--config", config, "--state", folder / "s.json", "--log-file", folder / "log")
        serve = started("-m", "ccfallback", *map(str, files), "serve", "--port", "0")
        proxy = stack.enter_context(serve)
        url = address(proxy)
        seen, sizes = asyncio.run(
            load(url, proxy.pid, folder / "s.json", given.minutes, given.clients)
        )
        return 0 if report(seen, sizes, given.minutes) else 1


if __name__ == "__main__":
    sys.exit(main())
