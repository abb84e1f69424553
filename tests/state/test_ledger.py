"""The ledger loses and doubles nothing, whatever a crash leaves of a line."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from ccfallback.config.model import Cap, Config, Provider
from ccfallback.paths import Paths
from ccfallback.policy.spend import NANO
from ccfallback.server.spending import Spending
from ccfallback.state import ledger
from ccfallback.state.ledger import Row

NOW = datetime(2026, 11, 28, 12).timestamp()
CONFIG = Config(providers=(Provider(name="p", base_url="", cap=Cap(day=1e6)),))
WHOLE = ledger.encode([Row(at=NOW, provider="p", model="café", cost=1.0)])

# A server that dies within the second of two writes, with half of its row on the disk.
DIES = """
import os, signal, sys
from pathlib import Path
from ccfallback.server.spending import Spending
from ccfallback.state.ledger import Row

def put(share):
    def write(descriptor, data, real=os.write):
        real(descriptor, data[: int(share * len(data))])
        os.kill(os.getpid(), signal.SIGKILL)
    if share < 1:
        os.write = write
    spending.put(Row(at=NOW, provider="p", model="caf\\u00e9" * 40, cost=1.0))
    spending.flush()

NOW = float(sys.argv[2])
spending = Spending(Path(sys.argv[1]), clock=lambda: NOW)
put(1)
put(float(sys.argv[3]))
"""


@pytest.fixture(params=[CONFIG, Config()], ids=["cap", "no-cap"])
def server(paths: Paths, request: pytest.FixtureRequest) -> Iterator[Callable[[], Spending]]:
    """Starts the ledger of a server; all of them have one state."""
    started: list[Spending] = []

    def start() -> Spending:
        started.append(Spending(paths.state, clock=lambda: NOW))
        started[-1].configure(request.param)
        return started[-1]

    yield start
    for each in started:
        each.close()


def put(spending: Spending, count: int = 1) -> None:
    for _ in range(count):
        spending.put(Row(at=NOW, provider="p", cost=1.0))
    assert spending.flush()


def dollars(spending: Spending) -> float:
    """What the server believes has been spent this month; without a cap, what the file says."""
    if not spending._wants_sums:
        assert spending._state is not None
        return sum(row.cost or 0.0 for row in ledger.rows_since(spending._state, 0.0))
    spending._write([])
    return spending.spent("p").month / NANO


def file_of(paths: Paths) -> Path:
    return ledger.ledger_path(paths.state, ledger.month_of(NOW))


def rows(paths: Paths) -> int:
    return len(list(ledger.rows_since(paths.state, 0.0)))


@pytest.mark.parametrize(
    ("remains", "count"),
    [
        (WHOLE[:-1], 1),
        (WHOLE[:1], 0),
        (WHOLE[:20], 0),
        (WHOLE[: WHOLE.index(b"\xa9")], 0),
        (WHOLE + WHOLE[:30], 1),
        (WHOLE[:30] + WHOLE[:-1], 1),
        (WHOLE[:-1] * 3, 3),
        (bytes(4096), 0),
        (WHOLE + bytes(700), 1),
        (WHOLE[:40] + bytes(100), 0),
        (bytes(100) + WHOLE[:-1], 1),
        (b"\xff\xfe\r\n[", 0),
        (b'{"at":1e300,"provider":"p","cost":1.0}\n', 0),
        (b'{"at":-1,"provider":"p","cost":1.0}\n', 0),
        (b'{"at":1795000000,"provider":"p","cost":1e300}\n', 0),
        (b'{"at":1795000000,"provider":"p","cost":1e999}\n', 0),
        (b"[" * 100_000 + b"\n", 0),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else str(value),
)
def test_what_a_crash_leaves_takes_no_other_line_with_it(
    remains: bytes, count: int, server: Callable[[], Spending], paths: Paths
) -> None:
    before = server()
    put(before, 2)
    with file_of(paths).open("ab") as file:
        file.write(remains)
    # It has the file open, and has seen its end before the other one died.
    put(before, 2)
    assert dollars(before) == 4 + count
    after = server()
    put(after, 3)
    assert [dollars(each) for each in (before, after)] == [7 + count] * 2
    assert rows(paths) == 7 + count


def test_a_row_that_follows_half_a_line_at_once_is_read(paths: Paths) -> None:
    # As when a server dies between the look at the end of the file and the write.
    file_of(paths).parent.mkdir(parents=True)
    file_of(paths).write_bytes(WHOLE[:50] + WHOLE + bytes(9) + WHOLE + WHOLE[:-1] + WHOLE)
    assert rows(paths) == 4


def test_a_brace_within_a_name_does_not_begin_a_row(paths: Paths) -> None:
    file_of(paths).parent.mkdir(parents=True)
    name = '{"at":1795000000,"provider":"p","cost":1.0}'
    line = ledger.encode([Row(at=NOW, provider="p", model=name, cost=1.0)])
    file_of(paths).write_bytes(line + line[:-3] + b"\n")
    assert rows(paths) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.99, 1])
def test_a_server_that_is_killed_while_it_writes_takes_no_line_of_another(
    share: float, server: Callable[[], Spending], paths: Paths
) -> None:
    living = server()
    put(living)
    for deaths in range(1, 4):
        command = [sys.executable, "-c", DIES, str(paths.state), str(NOW), str(share)]
        died = subprocess.run(command, capture_output=True, check=False)
        assert died.returncode == (0 if share == 1 else -9), died.stderr.decode()
        put(living)
        whole = deaths * (2 if share == 1 else 1)
        assert dollars(living) == 1 + deaths + whole
    assert rows(paths) == dollars(server()) == 4 + whole


@pytest.mark.parametrize("room", [0, 10, len(WHOLE), 3 * len(WHOLE) - 4, 5 * len(WHOLE) - 1])
def test_a_disk_that_becomes_full_doubles_no_row(
    room: int, server: Callable[[], Spending], paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    spending, real = server(), os.write
    put(spending)
    left = room

    def write(descriptor: int, data: bytes) -> int:
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, data[:left])
        left -= written
        return written

    five = [Row(at=NOW, provider="p", model="café", cost=1.0) for _ in range(5)]
    with monkeypatch.context() as patch:
        patch.setattr("ccfallback.events.journal.os.write", write)
        for row in five:
            with spending._memory:
                spending._waiting.add([row])
        spending._write(five)
    if spending._wants_sums:
        assert spending.spent("p").month == 6 * NANO
    put(spending)
    assert dollars(spending) == dollars(server()) == rows(paths) == 7
