"""How much later the first token comes because of a failover: what a user feels.

Primary and fallback begin to speak after `FIRST_TOKEN` seconds. Before each fault the primary is
well for a while. A client whose answer does not come or breaks off asks again, as Claude Code does.
"""

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Final
from uuid import uuid4

from ccfallback.state.file import StateFile
from tests.benchmarks.bench import SERVE, provider
from tests.benchmarks.client import HEADERS, body, latencies, request
from tests.benchmarks.faulty import REFUSED
from tests.benchmarks.peers import TIMEOUT, WAYS, Served, Upstreams, start_peers
from tests.benchmarks.processes import (
    OURS,
    PROXYS,
    Program,
    ccfallback_files,
    free_ports,
    start,
    wait_for,
)
from tests.benchmarks.report import Figure, markdown, shown

PAUSES: Final = (0.0, 0.5, 1.0)
"""Seconds before each try of the client."""

PATIENCE: Final = 45.0
"""Seconds in which a client hears nothing until it gives up a try."""

LEARNED: Final = 25
"""So many answers teach a proxy how long the primary takes."""


@dataclass(frozen=True)
class Fault:
    """What the primary does wrong."""

    name: str
    scene: str
    way: str = "primary"
    is_slow: bool = False
    """Waits for a timeout: looked at once, after `LEARNED` answers."""


FAULTS: Final = (
    Fault("429", "429"),
    Fault("529", "529"),
    Fault("connection refused", REFUSED),
    Fault("reset after the request", "reset"),
    Fault("200 without a body", "empty"),
    Fault("stream torn before its first token", "torn-early"),
    Fault("stream torn later, and asked again", "torn"),
    Fault("no answer, after 25 quick ones", "hang", is_slow=True),
    Fault("no end of the TLS handshake", "good", "tls", is_slow=True),
)


@dataclass(frozen=True)
class Felt:
    """What a failover was like."""

    seconds: float
    """Until the first token of the answer that stayed."""
    tries: float
    """Of the client."""


class Lost(Exception):
    """No try was answered."""


def _ask(served: Served, way: str) -> Felt:
    """One streamed request of 2 kB, in a session of its own. Raises `Lost`."""
    began, why = perf_counter(), ""
    for tries, pause in enumerate(PAUSES, start=1):
        sleep(pause)
        try:
            return Felt(_first_token(served, way) - began, tries)
        except (OSError, HTTPException) as error:
            why = str(error) or type(error).__name__
    raise Lost(why)


def _first_token(served: Served, way: str) -> float:
    """The time of the first token of an answer that ends as it should."""
    headers = {
        **HEADERS,
        "x-claude-code-session-id": str(uuid4()),
        **served.headers.get(way, {}),
    }
    connection = HTTPConnection("127.0.0.1", served.ports[way], timeout=PATIENCE)
    with closing(connection):
        content = body(served.models.get(way, "claude-x"))
        connection.request("POST", "/v1/messages", content, headers)
        response = connection.getresponse()
        received, first = b"", 0.0
        while piece := response.read1(65536):
            received += piece
            if not first and b"content_block_delta" in received:
                first = perf_counter()
    if response.status != 200 or not first or b"message_stop" not in received:
        raise ConnectionError(f"answered {response.status} {received[:200]!r}")
    return first


@dataclass(frozen=True)
class Field:
    """The proxies, and the upstream that fails."""

    proxies: Sequence[Served]
    notes: Sequence[str]
    control: socket.socket
    spare: int

    def set_scene(self, name: str) -> None:
        """Change what the primary does."""
        self.control.sendall(f"{name}\n".encode())
        self.control.recv(100)


@contextmanager
def started_field(folder: Path, peers: bool) -> Iterator[Field]:
    """Start upstreams, ccfallback and, if they are wanted, the peers."""
    with ExitStack() as stack:

        def begin(*command: str, files: dict[str, str] | None = None) -> Program:
            cores = OURS if files is None else PROXYS
            program = start([*SERVE[:2], *command], cores, files)
            stack.callback(program.stop)
            return program

        primary, control, tls, spare, *unused = free_ports(6)
        for listening in ((primary, control, tls), (spare, *unused)):
            begin("tests.benchmarks.faulty", *map(str, listening))
            wait_for(listening[1])
        upstreams = Upstreams(primary, tls, spare)
        urls, programs, states = upstreams.urls(), [], []
        ports = dict(zip(WAYS, free_ports(len(WAYS)), strict=True))
        for way, port in ports.items():
            # Said outright, the default holds on loopback too, where it would be longer.
            config = f"[timeouts]\nfirst_byte = {TIMEOUT}\n"
            config += f'[primary]\nbase_url = "{urls[way]}"\n{provider(urls["spare"])}'
            files = ccfallback_files(folder, f"failover-{way}", config, port)
            states.append(StateFile(Path(files["CCFALLBACK_STATE"])))
            programs.append(begin(*SERVE[2:], files=files))
            wait_for(port)

        def forget() -> None:
            for state in states:
                state.update(lambda _states: {})

        ours = Served("ccfallback", programs, ports, forget=forget)
        found, notes = start_peers(folder, upstreams) if peers else ([], [])
        for each in found:
            stack.callback(each.programs[0].stop)
        line = stack.enter_context(socket.create_connection(("127.0.0.1", control)))
        yield Field([ours, *found], notes, line, spare)


@dataclass(frozen=True)
class Column:
    """What was seen of a proxy."""

    name: str
    healthy: float
    """Seconds until the first token while the primary is well."""
    felt: dict[str, Felt | None]
    """By fault; `None` if no try was answered."""

    def cell(self, fault: Fault) -> str:
        """How much later the first token came."""
        felt = self.felt[fault.name]
        if felt is None:
            return "lost"
        later, ratio = (felt.seconds - self.healthy) * 1000, felt.seconds / self.healthy
        again = ", asked again" if felt.tries > 1 else ""
        return f"{later:+,.1f} ms ({ratio:.2f} x{again})"


def _look(field: Field, served: Served, rounds: int) -> Column:
    """All faults, one after the other. Raises `Lost` if it does not even answer without them."""
    healthy: list[float] = []
    felt: dict[str, Felt | None] = {}
    for fault in FAULTS:
        seen: list[Felt] = []
        try:
            for _ in range(1 if fault.is_slow else rounds):
                field.set_scene("good")
                served.forget()
                healthy += [
                    _ask(served, "primary").seconds
                    for _ in range(LEARNED if fault.scene == "hang" else 1)
                ]
                field.set_scene(fault.scene)
                seen.append(_ask(served, fault.way))
        except Lost as error:
            if not healthy:
                raise
            sys.stderr.write(f"{served.name}, {fault.name}: {error}\n")
            felt[fault.name] = None
        else:
            felt[fault.name] = Felt(
                median(each.seconds for each in seen), median(each.tries for each in seen)
            )
    return Column(served.name, median(healthy), felt)


def _added_latency(field: Field, served: Served, count: int = 200) -> tuple[float, float]:
    """Milliseconds that it adds to whole answers of 2 kB, at the median and the 95th percentile."""
    field.set_scene("good")
    content = body("whole").replace(
        b'"whole"', f'"{served.models.get("primary", "whole")}"'.encode()
    )
    wire = request(content, served.headers.get("primary"))
    found = []
    for port in (served.ports["primary"], field.spare):
        latencies(port, wire, count // 4)
        times = latencies(port, wire, count)
        found.append((median(times) * 1e3, quantiles(times, n=20)[18] * 1e3))
    proxy, direct = found
    return proxy[0] - direct[0], proxy[1] - direct[1]


def failover_figures(folder: Path, rounds: int, *, peers: bool) -> tuple[list[Figure], str]:
    """What each proxy makes of each fault: ccfallback's as figures, all as a Markdown table."""
    columns: list[Column] = []
    added: dict[str, tuple[float, float]] = {}
    with started_field(folder, peers) as field:
        notes = list(field.notes)
        for served in field.proxies:
            sys.stderr.write(f"failover, {served.name} …\n")
            try:
                columns.append(_look(field, served, rounds))
            except Lost as error:
                notes.append(f"{served.name}: no stream even without a fault ({error})")
            if peers:
                served.forget()
                added[served.name] = _added_latency(field, served)
    rows = [["what the primary does", *(each.name for each in columns)]]
    rows.append(
        ["answers: first token after", *(f"{shown(each.healthy * 1000)} ms" for each in columns)]
    )
    rows += [[fault.name, *(each.cell(fault) for each in columns)] for fault in FAULTS]
    text = (
        "How much later the first token comes, and how many times as late, with the client's own "
        f"tries;\nlost: not in {len(PAUSES)} of them.\n\n{markdown(rows)}"
    )
    if added:
        cells = [[name, *(f"{shown(value)} ms" for value in both)] for name, both in added.items()]
        head = ["added latency, whole answer, 2 kB", "p50", "p95"]
        text += "\n\n" + markdown([head, *cells])
    figures = [
        Figure.single(
            f"first token later, {fault.name}", (felt.seconds - columns[0].healthy) * 1000, "ms"
        )
        for fault in FAULTS
        if (felt := columns[0].felt[fault.name]) is not None
    ]
    return figures, "\n\n".join([text, *notes])
