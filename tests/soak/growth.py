"""What large things cost the real proxy: many open streams, a large state, a long body.

`python -m tests.soak.growth streams` opens 2,000 streams in which nothing happens,
`python -m tests.soak.growth providers` gives it the state of 10,000 providers, and
`python -m tests.soak.growth body` sends 32 MiB. `--count` changes the number. Each prints figures.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import clock_gettime, perf_counter, process_time, sleep

import httpx
import msgspec
from msgspec.structs import replace

from ccfallback.policy.breaker import CLOSED
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.state.file import StateFile
from tests.benchmarks import lag
from tests.benchmarks.bench import SERVE, grown_state
from tests.benchmarks.client import body, latencies, open_streams, request
from tests.benchmarks.loop import run
from tests.benchmarks.processes import (
    PROXYS,
    Program,
    ccfallback_files,
    clock_of,
    free_ports,
    start,
    start_upstream,
    wait_for,
)

QUIET = 10.0
"""Seconds in which the streams stay open and nothing happens."""


def say(name: str, value: str) -> None:
    """Print a figure."""
    sys.stdout.write(f"{name}: {value}\n")
    sys.stdout.flush()


def raise_own_limit() -> None:
    """Allow this process and its children as many files as they may have."""
    with suppress(ImportError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def streams(folder: Path, count: int) -> None:
    """Memory and CPU of streams in which nothing happens."""
    raise_own_limit()
    port, upstream_port = free_ports(2)
    upstream = start_upstream(upstream_port)
    config = f'[primary]\nbase_url = "http://127.0.0.1:{upstream_port}"\n'
    proxy = start(SERVE, PROXYS, ccfallback_files(folder, "streams", config, port))
    try:
        wait_for(port)
        whole = request(body("whole"))
        latencies(port, whole, 200)
        before, usual = proxy.resident(), median(latencies(port, whole, 200))
        begun = run(
            open_streams(
                port,
                request(body("held")),
                count,
                lambda: _look_at_streams(proxy, port, whole, count, before, usual),
            )
        )
        sleep(1)
        say("streams that began", f"{begun:,}")
        say("memory when they have ended", f"{proxy.resident():.1f} MiB ({before:.1f} before)")
    finally:
        proxy.stop()
        upstream.stop()


def _look_at_streams(
    proxy: Program, port: int, whole: bytes, count: int, before: float, usual: float
) -> None:
    resident, cpu = proxy.resident(), proxy.cpu()
    say(f"memory with {count:,} open streams", f"{resident:.1f} MiB ({before:.1f} before)")
    say("memory of a stream", f"{(resident - before) / count * 1024:.1f} KiB")
    sleep(QUIET)
    say("CPU while nothing happens", f"{(proxy.cpu() - cpu) / QUIET * 100:.1f} %")
    meanwhile = median(latencies(port, whole, 200))
    say("a request meanwhile, p50", f"{meanwhile * 1e3:.2f} ms ({usual * 1e3:.2f} before)")


class Probed:
    """A proxy in a process of its own that tells how long its loop stood still."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdout is not None
        self.url = process.stdout.readline().strip()

    def longest_pause(self) -> float:
        """Milliseconds of the longest step since the last call, without waits for a processor."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        _, waited, _ = msgspec.json.decode(self._process.stdout.readline(), type=list[float])
        return waited

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return clock_gettime(clock_of(self._process.pid))

    def memory(self, key: str = "VmHWM") -> float:
        """The peak of the resident memory, in MiB; `VmRSS`: now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"{key}:\s+(\d+)", status)
        return int(found[1]) / 1024 if found else 0.0


@contextmanager
def probed(folder: Path, config: str, state: bytes = b"") -> Iterator[Probed]:
    """Start such a proxy."""
    folder.mkdir()
    (folder / "config.toml").write_text(config)
    if state:
        (folder / "state.json").write_bytes(state)
    with lag.served(folder) as process:
        yield Probed(process)


def timed(action: Callable[[], object], times: int = 5) -> str:
    """The medians of its time and its CPU time."""
    found = []
    for _ in range(times):
        began, cpu = perf_counter(), process_time()
        action()
        found.append((perf_counter() - began, process_time() - cpu))
    seconds, cpu = (median(values) * 1e3 for values in zip(*found, strict=True))
    return f"{seconds:.1f} ms, CPU {cpu:.1f} ms"


def asked(proxy: Probed, content: bytes, times: int) -> str:
    """Ask so often: the time and the CPU of a request, and the longest pause of the loop."""
    with httpx.Client(timeout=120, trust_env=False) as client:
        proxy.longest_pause()
        cpu, found = proxy.cpu(), []
        for _ in range(times):
            began = perf_counter()
            answer = client.post(f"{proxy.url}/v1/messages", content=content)
            found.append(perf_counter() - began)
            assert answer.status_code == 200, answer.text
        cpu = (proxy.cpu() - cpu) / times
    return (
        f"p50 {median(found) * 1e3:.1f} ms, longest {max(found) * 1e3:.1f} ms, "
        f"CPU {cpu * 1e3:.1f} ms, longest step of the loop {proxy.longest_pause():.1f} ms"
    )


def providers(folder: Path, count: int) -> None:
    """What the state of very many providers costs a load, an update, a request and a failover."""
    state = grown_state(count)
    path = folder / "state.json"
    path.write_bytes(state)
    say("size of the state file", f"{len(state) / 1e6:.1f} MB")
    store = StateFile(path)
    say("a load", timed(lambda: StateFile(path).load()))
    numbers = iter(range(1, 1000))

    def fail() -> None:
        failed = replace(CLOSED, failures=next(numbers), last_failure=1.0)
        store.update(lambda states: {**states, "provider-1": failed})

    say("an update of one provider", timed(fail))
    small = body("whole")
    with (
        ScriptedUpstream([scripted.reply("hi")]) as good,
        ScriptedUpstream([scripted.error(529, "overloaded_error")]) as bad,
    ):
        for name, kept in (("an empty state", b""), (f"that of {count:,} providers", state)):
            for what, primary in (("a request", good), ("a failover", bad)):
                config = lag.CONFIG.format(primary=primary.url, spare=good.url)
                config = f"[breaker]\nmax_cooldown = 0\n{config}"
                with probed(folder / f"{what} {len(kept)}", config, kept) as proxy:
                    asked(proxy, small, 1)
                    say(f"{what} with {name}", asked(proxy, small, 30))
    command = [sys.executable, "-m", "ccfallback", "--state", str(path), "status"]
    say(
        "`status`",
        timed(lambda: subprocess.run(command, capture_output=True, check=False), 3).split(",")[0],
    )


def long_body(folder: Path, mebibytes: int) -> None:
    """What a body of the largest size costs, passed on, and with a failover and three repairs."""
    limit = mebibytes << 20
    content = lag.request(int(limit * limit / len(lag.request(limit)) * 0.999))
    say("the body", f"{len(content) / (1 << 20):.1f} MiB")
    refusals = [scripted.error(400, "invalid_request_error", text) for text in lag.REFUSED]
    reply = scripted.reply("hi")
    for name, first, then in (
        ("passed on", reply, []),
        ("failed over and repaired three times", scripted.error(529, "overloaded_error"), refusals),
    ):
        with ScriptedUpstream([first]) as primary, ScriptedUpstream([*then, reply]) as spare:
            config = lag.CONFIG.format(primary=primary.url, spare=spare.url)
            with probed(folder / name, config) as proxy:
                before = proxy.memory("VmRSS")
                say(name, asked(proxy, content, 1))
                peak, after = proxy.memory(), proxy.memory("VmRSS")
                say(
                    f"{name}: memory",
                    f"{before:.1f} MiB before, {peak:.1f} at most, {after:.1f} afterwards",
                )


KINDS: dict[str, tuple[Callable[[Path, int], None], int]] = {
    "streams": (streams, 2000),
    "providers": (providers, 10_000),
    "body": (long_body, 32),
}


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.growth", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, help="of streams, of providers, or of MiB")
    given = parser.parse_args()
    measure, usual = KINDS[given.kind]
    with TemporaryDirectory(prefix="ccfallback-growth-") as folder:
        measure(Path(folder), given.count or usual)


if __name__ == "__main__":
    main()
