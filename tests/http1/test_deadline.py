"""An alarm rings when a wait is too long, however many short ones came before."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ccfallback.http1 import Deadline, DeadlineExceeded, Timer, deadline
from ccfallback.http1.deadline import LATE_SECONDS, READING_SECONDS

LIMIT = 0.05
"""Seconds for a wait during which the process is stopped."""


async def test_a_timer_rings_once_after_its_seconds() -> None:
    rung = asyncio.Event()
    alarm = Timer(rung.set)
    alarm.set(0.001)
    await rung.wait()
    assert not alarm.is_set


async def test_a_stopped_timer_does_not_ring() -> None:
    rungs: list[int] = []
    rung = asyncio.Event()
    alarm, other = Timer(lambda: rungs.append(1)), Timer(rung.set)
    alarm.set(0.001)
    alarm.stop()
    other.set(0.02)
    await rung.wait()
    assert not rungs
    other.close()


async def test_a_timer_that_goes_off_too_early_is_set_again() -> None:
    order: list[str] = []
    rung = asyncio.Event()

    def ring() -> None:
        order.append("rung")
        rung.set()

    alarm = Timer(ring)
    alarm.set(0.01)
    alarm.stop()
    alarm.set(0.1)
    asyncio.get_running_loop().call_later(0.05, order.append, "not yet")
    await rung.wait()
    assert order == ["not yet", "rung"]


async def test_a_shorter_wait_than_the_one_before_rings_in_its_own_time() -> None:
    rung = asyncio.Event()
    alarm = Timer(rung.set)
    alarm.set(3600)
    alarm.set(0.001)
    await rung.wait()


async def test_a_closed_timer_leaves_nothing_on_the_loop() -> None:
    rungs: list[int] = []
    alarm = Timer(lambda: rungs.append(1))
    alarm.set(0.001)
    alarm.close()
    await asyncio.sleep(0.01)
    assert not rungs
    assert not alarm.is_set


async def silence() -> None:
    await asyncio.Event().wait()


async def swallows() -> None:
    try:
        await silence()
    except asyncio.CancelledError:
        return


async def ends_otherwise() -> None:
    try:
        await silence()
    except asyncio.CancelledError:
        raise OSError from None


async def in_time() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("before", [silence, swallows, ends_otherwise, in_time])
async def test_a_deadline_does_not_carry_over_to_the_next_wait(
    before: Callable[[], Awaitable[None]],
) -> None:
    watch = Deadline()
    limit = 3600 if before is in_time else 0.001
    try:
        await watch.wait(before(), "first", limit)
    except DeadlineExceeded:
        assert before is silence
    except OSError:
        assert before is ends_otherwise
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with pytest.raises(DeadlineExceeded) as late:
        await watch.wait(silence(), "second", 0.001)
    assert (late.value.timeout, late.value.seconds) == ("second", 0.001)
    watch.close()


@pytest.mark.parametrize("late_as_well", [False, True])
async def test_a_cancellation_from_elsewhere_is_not_swallowed(late_as_well: bool) -> None:
    watch = Deadline()

    async def cancelled_meanwhile() -> None:
        loop = asyncio.get_running_loop()
        if late_as_well:
            # Both before the task gets to know of either.
            watch._expire()
        loop.call_soon(work.cancel)
        await silence()

    work = asyncio.create_task(watch.wait(cancelled_meanwhile(), "late", 3600))
    with pytest.raises(asyncio.CancelledError):
        await work
    assert work.cancelled()
    watch.close()


async def test_a_closed_deadline_leaves_no_timer() -> None:
    watch = Deadline()
    work = asyncio.create_task(watch.wait(asyncio.sleep(0.02), "late", 0.01))
    await asyncio.sleep(0)
    watch.close()
    await work
    await watch.wait(in_time(), "after", 3600)


async def test_a_wait_that_is_cancelled_from_elsewhere_says_how_long_it_was() -> None:
    watch = Deadline()
    waiting = asyncio.create_task(watch.wait(asyncio.sleep(60), "idle", 60))
    await asyncio.sleep(0.02)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert 0.01 < watch.waited < 60
    watch.close()


def stop_process(before: Callable[[], object] = lambda: None) -> None:
    """As soon as the task waits, let the loop stand still for longer than `LIMIT` allows."""

    def stand_still() -> None:
        before()
        time.sleep(LIMIT + 3 * LATE_SECONDS)

    asyncio.get_running_loop().call_soon(stand_still)


@asynccontextmanager
async def a_pipe() -> AsyncIterator[tuple[asyncio.StreamReader, socket.socket]]:
    """What a test writes to, and where the loop reads it."""
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        yield reader, theirs
        writer.close()
        await writer.wait_closed()


async def test_what_arrived_while_the_process_was_stopped_is_in_time() -> None:
    watch = Deadline()
    async with a_pipe() as (reader, sender):
        stop_process(lambda: sender.send(b"here"))
        assert await watch.wait(reader.read(9), "idle", LIMIT) == b"here"
        # The next wait has all of its time, and no more.
        sender.send(b"more")
        assert await watch.wait(reader.read(9), "idle", 60) == b"more"
        with pytest.raises(DeadlineExceeded):
            await watch.wait(reader.read(9), "idle", READING_SECONDS + LIMIT)
    watch.close()


async def test_silence_while_the_process_was_stopped_is_too_long() -> None:
    watch = Deadline()
    async with a_pipe() as (reader, _):
        stop_process()
        with pytest.raises(DeadlineExceeded):
            await watch.wait(reader.read(9), "idle", LIMIT)
    watch.close()


async def test_a_late_timer_rings_for_no_other_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "READING_SECONDS", 3600.0)
    rung = asyncio.Event()
    timer = Timer(rung.set)
    timer.set(LIMIT)
    stop_process()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not rung.is_set()
    # The loop may still read, but the wait is over.
    timer.stop()
    timer.set(LIMIT)
    await rung.wait()
    timer.close()
