"""The clocks and the chance of a simulated process, and what of the product they replace.

`install` has to run before anything of the product is imported, because modules take names such as
`monotonic` when they are imported. It is for a process that does nothing else.
"""

import contextlib
import os
import random
import secrets
import sys
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any, Final

EPOCH: Final = 1_788_000_000.0
"""Unix seconds at which every history begins: 29 August 2026, so that a month ends soon."""

BOOTED: Final = 1000.0
"""Seconds that the machine has been running by then."""


class Now:
    """The simulated clocks, and the product's chance."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        """Virtual seconds in which the machine was awake."""
        self.slept = 0.0
        self.jumped = 0.0
        """Seconds by which the wall clock is wrong."""
        self.chance = random.Random(0)

    def start(self, seed: int) -> None:
        """Begin a history."""
        self.__init__()  # type: ignore[misc]  # the same as a new object, under the same name
        self.chance = random.Random(seed)

    @property
    def true(self) -> float:
        """The true time, as providers know it, in Unix seconds."""
        return EPOCH + self.elapsed + self.slept

    @property
    def wall(self) -> float:
        """The machine's own idea of it."""
        return self.true + self.jumped


NOW: Final = Now()

perf_counter: Final = time.perf_counter
process_time: Final = time.process_time


def _monotonic() -> float:
    return BOOTED + NOW.elapsed


def _clock_gettime(clock: int) -> float:
    return _monotonic() + (NOW.slept if clock == time.CLOCK_BOOTTIME else 0.0)


class _Datetime(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_Datetime":
        return cls.fromtimestamp(NOW.wall, tz)


def _never(*_: object) -> None:
    raise AssertionError("nothing may wait for real")


def install() -> None:
    """Replace clocks, chance, threads and sockets in this process."""
    assert "ccfallback" not in sys.modules, "the product was imported too early"
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    os.environ.clear()
    os.environ.update(kept, TZ="UTC")
    if hasattr(time, "tzset"):
        time.tzset()
    if not hasattr(time, "CLOCK_BOOTTIME"):
        setattr(time, "CLOCK_BOOTTIME", 7)  # noqa: B010  # macOS has none
    _replace(
        time,
        time=lambda: NOW.wall,
        monotonic=_monotonic,
        perf_counter=_monotonic,
        clock_gettime=_clock_gettime,
        sleep=_never,
    )
    _replace(
        random,
        random=lambda: NOW.chance.random(),
        getrandbits=lambda count: NOW.chance.getrandbits(count),
        uniform=lambda low, high: low + (high - low) * NOW.chance.random(),
    )
    _replace(
        secrets, token_hex=lambda count=32: f"{NOW.chance.getrandbits(8 * count):0{2 * count}x}"
    )
    _replace(os, urandom=lambda count: NOW.chance.getrandbits(8 * count).to_bytes(count, "big"))
    _install_product()


def _install_product() -> None:
    """Replace threads and sockets in the product, before other modules take their names."""
    import ccfallback.server  # noqa: F401  # httpx is imported with it
    from ccfallback.events import journal
    from ccfallback.http1 import connect, connection
    from ccfallback.server import listening, serial_executor, trust
    from ccfallback.state import file as state_file
    from tests.simulation import disk, network

    _replace(serial_executor, SerialExecutor=disk.InlineExecutor)
    _replace(journal, Backlog=disk.InlineBacklog)
    _replace(
        connect,
        socket=network.SocketModule(),
        NAMES=network.Names(),
        _connect_socket=network.connect_socket,
    )
    _replace(connection, _readability_check=network.readability_check)
    _replace(listening, listen=network.listen)
    _replace(trust.TrustedRoots, load=lambda _: network.TRUST, find_problems=lambda _: [])
    _replace(state_file, datetime=_Datetime)
    disk.install()
    from ccfallback.server import serve
    from tests.simulation import machine

    _replace(
        serve,
        _handle_signals=lambda *_: contextlib.nullcontext(),
        FLUSH_SECONDS=machine.FLUSH_SECONDS,
    )


def _replace(owner: Any, **names: Callable[..., Any] | Any) -> None:
    for name, value in names.items():
        assert hasattr(owner, name), f"{owner} has no {name}"
        setattr(owner, name, value)
