"""What became of the requests of one `run`."""

import pytest

from ccfallback.events.records import (
    Event,
    ProviderAttempt,
    RequestComplete,
    RequestError,
    RequestStart,
)
from ccfallback.events.tally import Tally


def answer(
    provider: str,
    latency: float = 900.0,
    ttft: float | None = None,
    *,
    cost: float | None = 0.0,
) -> Event:
    return RequestComplete(
        provider=provider,
        status=200,
        latency=latency,
        ttft=ttft,
        stream=ttft is not None,
        cost=cost,
    )


def told(*events: Event, shared: bool = False) -> str:
    tally = Tally()
    for event in events:
        tally.count(event)
    return tally.describe(shared=shared)


MAIN = "anthropic-primary"
GOOD = "none lost, longest wait 0.9 s"
LOST = RequestError(status=502, error="fallback_exhausted")


@pytest.mark.parametrize(
    ("events", "line"),
    [
        ([], ""),
        ([RequestStart(), ProviderAttempt()], ""),
        ([answer(MAIN)], "1 request, none lost, longest wait 0.9 s"),
        (
            [answer(MAIN), answer("bedrock", 9000.0, 1210.0), answer("bedrock")],
            "3 requests, 2 by bedrock, none lost, longest wait 1.2 s",
        ),
        ([LOST], "1 request, 1 lost"),
        ([RequestError(status=529), answer(MAIN)], "2 requests, 1 lost, longest wait 0.9 s"),
        ([RequestError(status=499)], "1 request, none lost"),
        ([RequestError(status=400), RequestError(status=401)], "2 requests, none lost"),
        ([answer(MAIN, 240_000.0)], "1 request, none lost, longest wait 4 min"),
        (
            [answer(MAIN, cost=0.4), answer("bedrock", cost=0.021), answer(MAIN)],
            "3 requests, 1 by bedrock, none lost, longest wait 0.9 s, about $0.42",
        ),
        ([answer(MAIN, cost=12.0)] * 103, f"103 requests, {GOOD}, about $1,236.00"),
        ([answer(MAIN, cost=0.0001)], f"1 request, {GOOD}, less than $0.01"),
        ([answer(MAIN, cost=None)], f"1 request, {GOOD}, price unknown"),
        ([answer(MAIN, cost=None)] * 2, f"2 requests, {GOOD}, price unknown"),
        (
            [answer(MAIN, cost=0.42), answer(MAIN, cost=None)],
            f"2 requests, {GOOD}, about $0.42, price of 1 answer unknown",
        ),
        (
            [answer(MAIN), *[answer(MAIN, cost=None)] * 2],
            f"3 requests, {GOOD}, price of 2 answers unknown",
        ),
        # What was spent on an answer that you stopped.
        ([RequestError(status=499, cost=0.05)], "1 request, none lost, about $0.05"),
    ],
)
def test_the_line(events: list[Event], line: str) -> None:
    assert told(*events) == line


def test_other_clients_of_a_running_server_are_mentioned() -> None:
    one, other = RequestStart(session="a"), RequestStart(session="b")
    assert told(one, answer(MAIN), one, shared=True).startswith("1 request, ")
    assert told(one, other, answer(MAIN), shared=True).startswith("1 request by all clients, ")
    assert told(one, other, answer(MAIN)).startswith("1 request, ")
