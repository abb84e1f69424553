"""An alarm rings when a wait is too long, however many short ones came before."""

import asyncio

from ccfallback.proxy.alarm import Alarm
from tests.proxy.raw_upstream import Runs


def test_it_rings_once_the_time_is_over(run: Runs) -> None:
    async def story() -> None:
        rung = asyncio.Event()
        alarm = Alarm(rung.set)
        alarm.set(0.001)
        await rung.wait()
        assert not alarm.waiting

    run(story)


def test_a_wait_that_is_over_rings_nothing(run: Runs) -> None:
    async def story() -> None:
        rung = asyncio.Event()
        alarm, other = Alarm(lambda: rungs.append(1)), Alarm(rung.set)
        alarm.set(0.001)
        alarm.stop()
        other.set(0.02)
        await rung.wait()
        assert not rungs
        other.close()

    rungs: list[int] = []
    run(story)


def test_a_timer_that_goes_off_too_early_is_set_again(run: Runs) -> None:
    async def story() -> None:
        order: list[str] = []
        rung = asyncio.Event()

        def ring() -> None:
            order.append("rung")
            rung.set()

        alarm = Alarm(ring)
        alarm.set(0.01)
        alarm.stop()
        alarm.set(0.1)
        asyncio.get_running_loop().call_later(0.05, order.append, "not yet")
        await rung.wait()
        assert order == ["not yet", "rung"]

    run(story)


def test_a_shorter_wait_than_the_one_before_rings_in_its_own_time(run: Runs) -> None:
    async def story() -> None:
        rung = asyncio.Event()
        alarm = Alarm(rung.set)
        alarm.set(3600)
        alarm.set(0.001)
        await rung.wait()

    run(story)


def test_a_closed_alarm_leaves_no_timer(run: Runs) -> None:
    async def story() -> None:
        alarm = Alarm(lambda: rungs.append(1))
        alarm.set(0.001)
        alarm.close()
        await asyncio.sleep(0.01)
        assert not rungs
        assert not alarm.waiting

    rungs: list[int] = []
    run(story)
