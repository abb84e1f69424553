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


def answer(provider: str, latency: float = 900.0, ttft: float | None = None) -> Event:
    return RequestComplete(
        provider=provider, status=200, latency=latency, ttft=ttft, stream=ttft is not None
    )


def told(*events: Event, shared: bool = False) -> str:
    tally = Tally()
    for event in events:
        tally.count(event)
    return tally.describe(shared=shared)


MAIN = "anthropic-primary"
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
    ],
)
def test_the_line(events: list[Event], line: str) -> None:
    assert told(*events) == line


def test_other_clients_of_a_running_server_are_mentioned() -> None:
    one, other = RequestStart(session="a"), RequestStart(session="b")
    assert told(one, answer(MAIN), one, shared=True).startswith("1 request, ")
    assert told(one, other, answer(MAIN), shared=True).startswith("1 request by all clients, ")
    assert told(one, other, answer(MAIN)).startswith("1 request, ")
