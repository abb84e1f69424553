"""The client's side of a request: its body is bounded and decoded, its disconnect is noticed."""

import asyncio
import gzip
from collections.abc import Callable

import pytest

from ccfallback.http1 import CONNECTION_KEY, Message, Receive
from ccfallback.server.client import BadEncoding, ClientGone, TooLarge, read_body, while_connected


def receiving(*messages: Message) -> Receive:
    """An ASGI `receive` that gives these, then nothing more."""
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


def body(part: bytes, *, more: bool = False) -> Message:
    """A piece of the request's body."""
    return {"type": "http.request", "body": part, "more_body": more}


GONE: Message = {"type": "http.disconnect"}


def read(receive: Receive, limit: int = 100, encoding: bytes | None = None) -> bytes:
    """The body, as the server reads it."""
    headers = [] if encoding is None else [(b"content-encoding", encoding)]
    return asyncio.run(read_body(receive, dict(headers), None, limit))


def test_the_body_is_joined_from_its_pieces() -> None:
    assert read(receiving(body(b"one", more=True), body(b"two"))) == b"onetwo"


def test_the_limit_holds_for_the_encoded_and_the_decoded_body() -> None:
    assert read(receiving(body(b"x" * 100))) == b"x" * 100
    with pytest.raises(TooLarge):
        read(receiving(body(b"x" * 60, more=True), body(b"x" * 60)))
    with pytest.raises(TooLarge):
        read(receiving(body(gzip.compress(b"x" * 1000))), encoding=b"gzip")
    packed = gzip.compress(b"x" * 100)
    assert read(receiving(body(packed)), encoding=b"gzip") == b"x" * 100


@pytest.mark.parametrize("encoding", [b"br", b"gzip"])
def test_a_body_that_does_not_decode_is_refused(encoding: bytes) -> None:
    with pytest.raises(BadEncoding):
        read(receiving(body(b"nonsense")), encoding=encoding)


@pytest.mark.parametrize(
    "junk", [b"x", b"\0", gzip.compress(b"more")], ids=["text", "null", "member"]
)
@pytest.mark.parametrize("cut", [False, True])
def test_junk_behind_a_compressed_body_is_refused(junk: bytes, cut: bool) -> None:
    packed = gzip.compress(b"hello")
    parts = [body(packed, more=True), body(junk)] if cut else [body(packed + junk)]
    with pytest.raises(BadEncoding):
        read(receiving(*parts), encoding=b"gzip")
    with pytest.raises(BadEncoding):
        read(receiving(body(packed[:-1])), encoding=b"gzip")


def test_a_disconnect_during_the_body_is_noticed() -> None:
    with pytest.raises(ClientGone):
        read(receiving(body(b"one", more=True), GONE))


class Connected:
    """A client's connection."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_gone = False
        self.on_gone: Callable[[], None] | None = None

    def leave(self) -> None:
        self.is_gone = True
        if self.on_gone is not None:
            self.on_gone()


async def test_a_disconnect_cancels_the_work() -> None:
    client = Connected()
    asyncio.get_running_loop().call_soon(client.leave)
    with pytest.raises(ClientGone), while_connected({CONNECTION_KEY: client}):
        await asyncio.Event().wait()
    with pytest.raises(ClientGone), while_connected({CONNECTION_KEY: client}):
        raise AssertionError("no work begins after a disconnect")
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_disconnect_after_the_block_cancels_nothing() -> None:
    client = Connected()
    with while_connected({CONNECTION_KEY: client}):
        await asyncio.sleep(0)
    client.leave()
    await asyncio.sleep(0)


def test_without_a_disconnect_results_and_cancellations_pass() -> None:
    async def story() -> int:
        with while_connected({CONNECTION_KEY: Connected()}):
            await asyncio.sleep(0)
        return 1

    assert asyncio.run(story()) == 1

    async def cancelled() -> None:
        with while_connected({CONNECTION_KEY: Connected()}):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())


def test_another_cancellation_at_the_same_time_is_not_lost() -> None:
    async def story() -> None:
        client = Connected()
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        asyncio.get_running_loop().call_soon(client.leave)
        with while_connected({CONNECTION_KEY: client}):
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(story())
