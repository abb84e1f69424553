"""How fast the proxy is, beside nginx and no proxy at all, in one run: see `README.md`.

Each figure is the median of rounds in which the three take turns, so that what else the machine
does meets all of them. The proxies run on one core, client and upstream on the other.
"""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Final

import msgspec

from tests.benchmarks.client import (
    body,
    latencies,
    open_streams,
    request,
    requests_a_second,
    streams,
)
from tests.benchmarks.loop import run
from tests.benchmarks.processes import (
    NGINX,
    OURS,
    PROXYS,
    Program,
    ccfallback_files,
    free_ports,
    nginx_proxy,
    nginx_upstream,
    start,
    start_nginx,
    start_upstream,
    wait_for,
)
from tests.benchmarks.report import Figure
from tests.benchmarks.upstream import BURST

KB: Final = 1000
SIZES: Final = {"2 kB": (2 * KB, 600), "100 kB": (100 * KB, 300), "1 MB": (1000 * KB, 60)}
"""Sizes of requests, and how many of them a round takes."""

SERVE: Final = [sys.executable, "-m", "ccfallback", "serve"]
OPENAI: Final = 'format = "openai"\nbase_url = "http://127.0.0.1:{port}/v1/chat/completions"\n'


@dataclass
class Subject:
    """Something to measure: where each kind of request goes, and the programs that carry it."""

    name: str
    ports: Mapping[str, int]
    programs: Mapping[str, Program] = field(default_factory=dict)

    def cpu(self, way: str) -> float:
        """Seconds of CPU that its program for this way has taken."""
        program = self.programs.get(way)
        return 0.0 if program is None else program.cpu()


@dataclass
class Bench:
    """All subjects, and how long to look at them."""

    subjects: Sequence[Subject]
    rounds: int = 5
    seconds: float = 3.0

    def in_turn(
        self, way: str, measure: Callable[[Subject, int], Mapping[str, float]]
    ) -> dict[str, dict[str, float]]:
        """The medians of what is measured, by subject; those without this way are skipped."""
        seen: dict[str, dict[str, list[float]]] = {}
        able = [subject for subject in self.subjects if way in subject.ports]
        for subject in able:
            measure(subject, subject.ports[way])
        for _ in range(self.rounds):
            for subject in able:
                found = measure(subject, subject.ports[way])
                mine = seen.setdefault(subject.name, {})
                for key, value in found.items():
                    mine.setdefault(key, []).append(value)
        return {
            name: {key: median(values) for key, values in found.items()}
            for name, found in seen.items()
        }


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100)[98] if len(values) > 1 else values[0]


def added(bench: Bench, way: str, size: int, count: int) -> dict[str, dict[str, float]]:
    """Microseconds that each proxy adds, at the median and at the 99th percentile, and its CPU."""
    wire = request(body("whole", size))

    def measure(subject: Subject, port: int) -> dict[str, float]:
        before = subject.cpu(way)
        times = latencies(port, wire, count)
        cpu = (subject.cpu(way) - before) / count
        return {"p50": median(times) * 1e6, "p99": p99(times) * 1e6, "cpu": cpu * 1e6}

    found = bench.in_turn(way, measure)
    direct = found.pop("direct")
    for mine in found.values():
        mine["p50"] -= direct["p50"]
        mine["p99"] -= direct["p99"]
    return found


def latency_figures(bench: Bench) -> list[Figure]:
    """Added latency of whole answers, by the size of the request and by the way they go."""
    figures = []
    aims = {"2 kB": 2.0, "100 kB": 2.2, "1 MB": 3.0}
    for name, (size, count) in SIZES.items():
        found = added(bench, "stream", size, count)
        figures.append(Figure.ratio(f"added p50, {name}", found, "p50", "µs", aims[name]))
        figures.append(Figure.ratio(f"added p99, {name}", found, "p99", "µs"))
    found = added(bench, "failover", 2 * KB, 300)
    figures.append(Figure.ratio("added p50, 2 kB, failover after a 429", found, "p50", "µs", 2.5))
    if any("tls" in subject.ports for subject in bench.subjects):
        found = added(bench, "tls", 2 * KB, 300)
        figures.append(Figure.ratio("added p50, 2 kB, upstream over TLS", found, "p50", "µs"))
    found = added(bench, "openai", 2 * KB, 300)
    figures.append(Figure.ratio("added p50, 2 kB, translated to OpenAI", found, "p50", "µs"))
    return figures


def throughput_figures(bench: Bench) -> list[Figure]:
    """Requests a second and CPU a request, by concurrency."""
    figures = []
    for name, concurrency, aim in (
        ("2 kB", 1, None), ("2 kB", 16, 0.10), ("2 kB", 64, None), ("100 kB", 16, 0.20)
    ):  # fmt: skip
        content = body("whole", SIZES[name][0])
        # The upstream in C answers before it has read a long body, which is another measurement.
        way = "whole" if name == "2 kB" else "stream"

        def measure(
            subject: Subject,
            port: int,
            content: bytes = content,
            concurrency: int = concurrency,
            way: str = way,
        ) -> dict[str, float]:
            before = subject.cpu(way)
            rate = requests_a_second(port, content, concurrency, bench.seconds)
            cpu = (subject.cpu(way) - before) / (rate * bench.seconds)
            return {"rate": rate, "cpu": cpu * 1e6}

        found = bench.in_turn(way, measure)
        label = f"{name}, {concurrency} at once"
        figures.append(
            Figure.ratio(f"requests a second, {label}", found, "rate", "/s", aim, more=True)
        )
        limit = 140.0 if (name, concurrency) == ("2 kB", 16) else None
        found.pop("direct", None)
        figures.append(Figure.value(f"CPU a request, {label}", found, "cpu", "µs", limit))
    return figures


def stream_figures(bench: Bench) -> list[Figure]:
    """Bursts and paced streams, passed on and translated."""
    figures = []
    limit: float | None
    for way, kind in (("stream", ""), ("openai", ", translated")):
        wire = request(body("burst"))

        def burst(
            subject: Subject, port: int, way: str = way, wire: bytes = wire
        ) -> dict[str, float]:
            before = subject.cpu(way)
            result = streams(port, wire, 16, rounds=20)
            cpu = (subject.cpu(way) - before) / result.events
            return {"rate": result.events / result.seconds, "cpu": cpu * 1e6}

        found = bench.in_turn(way, burst)
        figures.append(
            Figure.ratio(f"events a second in bursts{kind}", found, "rate", "/s", more=True)
        )
        found.pop("direct", None)
        limit = 2.0 if way == "stream" else 15.0
        figures.append(Figure.value(f"CPU an event in bursts{kind}", found, "cpu", "µs", limit))
        paced_wire = request(body("paced"))

        def paced(
            subject: Subject, port: int, way: str = way, wire: bytes = paced_wire
        ) -> dict[str, float]:
            before = subject.cpu(way)
            result = streams(port, wire, 64)
            cpu = (subject.cpu(way) - before) / result.events
            return {
                "p50": median(result.ages) * 1e6,
                "p99": p99(result.ages) * 1e6,
                "first": median(result.first_bytes) * 1e6,
                "cpu": cpu * 1e6,
            }

        found = bench.in_turn(way, paced)
        what = f"64 streams of 100 events a second{kind}"
        figures.append(Figure.value(f"event age p50, {what}", found, "p50", "µs"))
        aim = 1.0 if way == "stream" else None
        figures.append(Figure.ratio(f"event age p99, {what}", found, "p99", "µs", aim))
        figures.append(Figure.value(f"first byte, {what}", found, "first", "µs"))
        found.pop("direct", None)
        limit = 25.0 if way == "stream" else None
        figures.append(Figure.value(f"CPU an event, {what}", found, "cpu", "µs", limit))
    return figures


def memory_figures(ours: Subject, fresh: Callable[[], tuple[Program, int]]) -> list[Figure]:
    """Memory before, after and under load; and the time to the first answer."""
    starts, idle = [], 0.0
    for _ in range(5):
        began = perf_counter()
        program, port = fresh()
        wait_for(port)
        latencies(port, request(body("whole")), 1)
        starts.append(perf_counter() - began)
        sleep(0.2)
        idle = program.resident()
        program.stop()
    loaded = ours.programs["stream"].resident()
    looked: list[float] = []
    wire = request(body("held"))
    open_at_once = run(
        open_streams(
            ours.ports["stream"],
            wire,
            1000,
            lambda: looked.append(ours.programs["stream"].resident()),
        )
    )
    return [
        Figure.single("start to first answer", median(starts), "s", 0.35),
        Figure.single("memory, idle", idle, "MiB", 40),
        Figure.single(
            "memory, after load", max(loaded, ours.programs["whole"].resident()), "MiB", 70
        ),
        Figure.single("streams open at once", open_at_once, ""),
        Figure.single("memory, with those streams", looked[0], "MiB"),
    ]


def growth_figures(ours: Subject) -> list[Figure]:
    """What a long life costs: a large state, and a million events."""
    wire = request(body("whole"))
    cpu: dict[str, list[float]] = {"stream": [], "grown": []}
    for _ in range(5):
        for way, found in cpu.items():
            before = ours.cpu(way)
            latencies(ours.ports[way], wire, 500)
            found.append((ours.cpu(way) - before) / 500 * 1e6)
    streams(ours.ports["stream"], request(body("burst")), 16, rounds=40)
    before = ours.programs["stream"].resident()
    rounds = -(-1_000_000 // (16 * BURST))
    streams(ours.ports["stream"], request(body("burst")), 16, rounds=rounds)
    grown_by = ours.programs["stream"].resident() - before
    ratio = median(cpu["grown"]) / median(cpu["stream"])
    return [
        Figure.single("CPU a request, by that with a state of 1,000 providers", ratio, "x"),
        Figure.single("memory that a million events add", grown_by, "MiB"),
    ]


def grown_state(count: int = 1000) -> bytes:
    """A state of so many providers, each with five models."""
    model = {"consecutiveFailures": 1, "lastFailure": 1, "lastSuccess": None, "reason": "529"}
    known = {**model, "cooldownUntil": None, "models": {f"model-{n}": model for n in range(5)}}
    providers = {f"provider-{number}": known for number in range(count)}
    return msgspec.json.encode({"version": 1, "providers": providers})


def command_figures(folder: Path) -> list[Figure]:
    """CPU of the commands that people and Claude Code wait for."""
    figures = []
    config = folder / "whole.toml"
    environ = {**os.environ, "CCFALLBACK_CONFIG": str(config)}
    for words, limit in (("--help", 0.150), ("providers list", 0.150), ("statusline", 0.100)):
        command = [sys.executable, "-m", "ccfallback", *words.split()]
        times = []
        for _ in range(7):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, input=b"{}", capture_output=True, check=False, env=environ)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        figures.append(Figure.single(f"CPU of `{words}`", median(times), "s", limit))
    return figures


def certificate(folder: Path) -> list[str]:
    """A certificate for localhost and its key; nothing where there is no openssl command."""
    if shutil.which("openssl") is None:
        return []
    files = [str(folder / "certificate.pem"), str(folder / "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def provider(base_url: str, name: str = "spare", more: str = "") -> str:
    """A fallback."""
    url = "" if "base_url" in more else f'base_url = "{base_url}"\n'
    return f'[[providers]]\nname = "{name}"\napi_key = "key-of-{name}"\n{url}{more}'


class Field:
    """Everything that runs during the benchmark."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        (self.stream, self.whole, self.refusing, self.tls) = free_ports(4)
        self._files = certificate(folder)
        self._start(start_upstream(self.stream))
        if NGINX is not None:
            servers = nginx_upstream(self.whole, self.refusing)
            self._start(start_nginx(folder / "upstream", servers, OURS))
            wait_for(self.whole)
        else:
            self.whole = self.refusing = self.stream
        if self._files:
            self._start(start_upstream(self.tls, self._files))

    def _start(self, program: Program) -> Program:
        self._stack.callback(program.stop)
        return program

    def direct(self) -> Subject:
        """No proxy at all."""
        ways = ("stream", "failover", "tls", "openai")
        return Subject("direct", {"whole": self.whole, **dict.fromkeys(ways, self.stream)})

    def nginx(self) -> Subject:
        """nginx as a proxy, one worker."""
        whole, stream, failover, tls = free_ports(4)
        servers = [
            nginx_proxy("whole", whole, [self.whole]),
            nginx_proxy("stream", stream, [self.stream]),
            nginx_proxy("failover", failover, [self.refusing, self.stream]),
        ]
        if self._files:
            servers.append(nginx_proxy("tls", tls, [self.tls], tls=self._files[0]))
        program = self._start(start_nginx(self._folder / "nginx", "\n".join(servers), PROXYS))
        wait_for(stream)
        ports = {"whole": whole, "stream": stream, "failover": failover}
        if self._files:
            ports["tls"] = tls
        return Subject("nginx", ports, dict.fromkeys(ports, program))

    def ccfallback(self) -> Subject:
        """ccfallback as it is shipped: a process for each way, each with its configuration."""
        other = provider(f"http://127.0.0.1:{self.stream}")
        configs = {
            "whole": f'[primary]\nbase_url = "http://127.0.0.1:{self.whole}"\n{other}',
            "grown": f'[primary]\nbase_url = "http://127.0.0.1:{self.stream}"\n{other}',
            "stream": f'[primary]\nbase_url = "http://127.0.0.1:{self.stream}"\n{other}',
            "failover": (
                f'[breaker]\nmax_cooldown = 0\n[primary]\nbase_url = "http://127.0.0.1:{self.refusing}"\n'
                + provider(f"http://127.0.0.1:{self.stream}")
            ),
            "openai": "[primary]\ndisabled = true\n"
            + provider("", more=OPENAI.format(port=self.stream)),
        }
        if self._files:
            configs["tls"] = f'[primary]\nbase_url = "https://localhost:{self.tls}"\n{other}'
        ports = dict(zip(configs, free_ports(len(configs)), strict=True))
        programs = {}
        for name, config in configs.items():
            files = ccfallback_files(self._folder, name, config, ports[name])
            if name == "grown":
                Path(files["CCFALLBACK_STATE"]).write_bytes(grown_state())
            if name == "tls":
                files["SSL_CERT_FILE"] = self._files[0]
            programs[name] = self._start(start(SERVE, PROXYS, files))
        for port in ports.values():
            wait_for(port)
        return Subject("ccfallback", ports, programs)

    def fresh(self) -> tuple[Program, int]:
        """One more ccfallback, just started."""
        (port,) = free_ports(1)
        config = f'[primary]\nbase_url = "http://127.0.0.1:{self.whole}"\n'
        files = ccfallback_files(self._folder, "fresh", config, port)
        return start(SERVE, PROXYS, files), port
