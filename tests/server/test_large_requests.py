"""What the event loop does itself of a request that is large, fails over, and is repaired.

Bytes are counted and threads are looked at, so the machine's speed does not matter.
"""

import threading
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from ccfallback.messages import body as bodies
from ccfallback.rectify import find_repairs
from ccfallback.server import repairs
from ccfallback.server.repairs import LARGE
from ccfallback.simulator import scripted
from tests.benchmarks.lag import REFUSED, request
from tests.conftest import Chain


class CountingDecoder:
    """A decoder that notes how many bytes it was given at once, and in which thread."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def decode(self, raw: msgspec.Raw) -> Any:
        """Decode the bytes."""
        self.calls.append((threading.get_ident(), len(raw)))
        return msgspec.json.decode(raw)

    def bytes_by_thread(self) -> dict[int, int]:
        """The bytes that each thread has decoded."""
        found: dict[int, int] = {}
        for thread, length in self.calls:
            found[thread] = found.get(thread, 0) + length
        return found


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> CountingDecoder:
    """Counts what `Body` decodes."""
    counting = CountingDecoder()
    monkeypatch.setattr(bodies, "_VALUE", counting)
    return counting


def test_a_large_body_that_is_repaired_three_times_is_walked_in_threads(
    chain: Callable[..., Chain], decoder: CountingDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    repairing: list[int] = []

    def noting(*args: Any, **options: Any) -> Any:
        repairing.append(threading.get_ident())
        return find_repairs(*args, **options)

    monkeypatch.setattr(repairs, "find_repairs", noting)
    refusals = [scripted.error(400, "invalid_request_error", text) for text in REFUSED]
    running = chain(scripted.error(529, "overloaded_error"), [*refusals, scripted.reply("done")])
    asked = request(4 * LARGE)
    url = f"{running.url}/v1/messages"
    answer = httpx.post(url, content=asked, timeout=60, trust_env=False)
    assert answer.headers["x-ccfallback-provider"] == "fallback1"
    assert len(running.fallback.received) == len(REFUSED) + 1
    loop = running.proxy.loop_thread
    assert loop is not None
    assert len(repairing) >= len(REFUSED)
    assert loop not in repairing
    counted = decoder.bytes_by_thread()
    assert counted.get(loop, 0) < LARGE
    assert sum(counted.values()) > LARGE


def test_no_call_decodes_a_long_list_at_once(decoder: CountingDecoder) -> None:
    # Another thread would keep the interpreter, and so the loop, for as long as one call takes.
    asked = request(8 * LARGE)
    body = bodies.Body.parse(asked)
    assert body.get("messages") == msgspec.json.decode(asked)["messages"]
    assert max(length for _, length in decoder.calls) < bodies.MAX_PIECE
    assert len(decoder.calls) > 8
