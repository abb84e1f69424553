"""Do what a failover conversation asks for, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import assert_never

from ccfallback.policy.failover import Flow, Try, Wait
from ccfallback.policy.outcome import Outcome


async def drive(
    flow: Flow,
    perform: Callable[[Try], Awaitable[Outcome]],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Outcome | None:
    """Perform the steps of `flow`; returns the outcome that it ends with.

    When cancelled, the flow is closed, which frees what it had reserved.
    """
    try:
        step = next(flow)
        while True:
            match step:
                case Try():
                    outcome: Outcome | None = await perform(step)
                case Wait(seconds):
                    await pause(seconds)
                    outcome = None
                case _:
                    assert_never(step)
            step = flow.send(outcome)
    except StopIteration as end:
        chosen: Outcome | None = end.value
        return chosen
    finally:
        flow.close()
