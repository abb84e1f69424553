"""The longest step of the event loop beside a large request: `python -m tests.benchmarks.lag`.

The request fails over and is repaired three times. Each figure is the median of several requests,
in milliseconds. `wall` is this machine's time. `waited` is that without the time in which the
loop's thread was ready to run and other programs had the processor, so it means something on a busy
machine too (Linux only); the wait for the interpreter, while another thread holds it, is in it.
`CPU` is the CPU time of the loop's thread alone.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time

import httpx
import msgspec

from ccfallback.paths import Paths
from ccfallback.server.serve import Proxy, run
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from tests.benchmarks.report import Figure

SIZE = 5_000_000

REFUSED = (
    "messages.1.content.0: Invalid `signature` in `thinking` block",
    "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for m",
    "cache_control: Extra inputs are not permitted",
)
"""Three refusals that are repaired, each by another rectifier."""

CONFIG = """
[primary]
base_url = "{primary}"
[[providers]]
name = "spare"
base_url = "{spare}"
api_key = "key"
"""


def request(size: int = SIZE) -> bytes:
    """A long conversation: tool calls with results, signed thinking, and a few long texts."""
    tools = [{"name": "Bash", "description": "d", "input_schema": {"type": "object"}}]
    messages: list[dict[str, object]] = [{"role": "user", "content": "go on"}]
    line, written, number = "a line of what a tool has said\n", 0, 0
    while written < size:
        number += 1
        text = line * (40 if number % 8 else 400)
        use = {"type": "tool_use", "id": f"toolu_{number}", "name": "Bash", "input": {"c": "ls"}}
        thinking = {"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJl" * 20}
        result = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": text}
        messages.append({"role": "assistant", "content": [thinking, use]})
        messages.append({"role": "user", "content": [result]})
        written += len(text) + 500
    system = [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    body = {"model": "claude-x", "max_tokens": 64000, "stream": True, "system": system}
    thinking_on = {"type": "enabled", "budget_tokens": 2000}
    return msgspec.json.encode(
        {**body, "thinking": thinking_on, "tools": tools, "messages": messages}
    )


class Probe:
    """Runs once in each turn of the loop, and keeps the longest turn."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            self._schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            self._schedule = -1
        self.reset()
        self._turn()

    def reset(self) -> None:
        """Start anew."""
        self.longest: tuple[float, ...] = (0.0, 0.0, 0.0)
        """The longest turn: its wall time, that without the waits for a processor, CPU time."""
        self._last = perf_counter(), self._delay(), thread_time()

    def _delay(self) -> float:
        """The seconds for which this thread has waited for a processor."""
        if self._schedule < 0:
            return 0.0
        return int(os.pread(self._schedule, 64, 0).split()[1]) / 1e9

    def _turn(self) -> None:
        now = perf_counter(), self._delay(), thread_time()
        wall, delay, cpu = (new - old for new, old in zip(now, self._last, strict=True))
        longest = zip(self.longest, (wall, max(0.0, wall - delay), cpu), strict=True)
        self.longest = tuple(max(pair) for pair in longest)
        self._last = now
        self._loop.call_soon(self._turn)


def serve(folder: Path) -> None:
    """Serve in this process; each line on standard input is answered with the longest turn."""
    paths = Paths(folder / "config.toml", folder / "state.json", folder / "log.jsonl")
    proxy = Proxy(paths)
    url = proxy.bind(None, 0)
    probes: list[Probe] = []

    def answer() -> None:
        if not sys.stdin.readline():
            proxy.stop()
            return
        figures = [seconds * 1e3 for seconds in probes[0].longest]
        probes[0].reset()
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
        sys.stdout.flush()

    def ready() -> None:
        probes.append(Probe())
        asyncio.get_running_loop().add_reader(sys.stdin, answer)
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    run(proxy, ready)


@contextmanager
def served(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A proxy with a probe, in its own process."""
    command = [sys.executable, "-m", "tests.benchmarks.lag", "--serve", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def longest_turns(rounds: int, size: int = SIZE) -> list[list[float]]:
    """The longest turn of the loop beside each of some requests, in milliseconds; see `Probe`."""
    refusals = [scripted.error(400, "invalid_request_error", text) for text in REFUSED]
    good = scripted.reply("done")
    body = request(size)
    found = []
    with (
        TemporaryDirectory(prefix="ccfallback-lag-") as folder,
        ScriptedUpstream([scripted.error(529, "overloaded_error")]) as primary,
        ScriptedUpstream([good]) as spare,
    ):
        config = CONFIG.format(primary=primary.url, spare=spare.url)
        (Path(folder) / "config.toml").write_text(config)
        for _ in range(rounds):
            (Path(folder) / "state.json").unlink(missing_ok=True)
            spare.script(*refusals, good)
            before = len(spare.received)
            with served(Path(folder)) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                url = f"{process.stdout.readline().strip()}/v1/messages"
                for measured in (False, True):
                    process.stdin.write("\n")
                    process.stdin.flush()
                    if measured:
                        found.append(msgspec.json.decode(process.stdout.readline()))
                    else:
                        process.stdout.readline()
                        answer = httpx.post(url, content=body, timeout=60, trust_env=False)
                        assert answer.headers["x-ccfallback-provider"] == "spare", answer.text
            assert len(spare.received) - before == len(REFUSED) + 1, "repairs did not happen"
    return found


def step_figures(rounds: int) -> list[Figure]:
    """The longest step of the loop beside a large request that is repaired."""
    _, waited, cpu = (median(values) for values in zip(*longest_turns(rounds), strict=True))
    name = "longest step beside a 5 MB request, repaired 3 times"
    return [
        Figure.single(name, waited, "ms", 30.0),
        Figure.single(f"{name}: CPU", cpu, "ms", 20.0),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lag", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=SIZE, help="bytes of the request")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve is not None:
        serve(chosen.serve)
        return
    turns = longest_turns(chosen.rounds, chosen.size)
    for name, values in zip(("wall", "waited", "CPU"), zip(*turns, strict=True), strict=True):
        listed = " ".join(f"{value:.1f}" for value in sorted(values))
        sys.stdout.write(f"longest step, {name}: median {median(values):.1f} ms ({listed})\n")


if __name__ == "__main__":
    main()
