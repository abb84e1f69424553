"""What a client may send, byte by byte: malformed and slow requests, and unusual targets."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import msgspec
import pytest

from ccfallback.http1 import server as protocol
from ccfallback.http1.server import MAX_HEAD, MAX_TARGET
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received
from tests.conftest import Chain

BODY = b'{"model":"m","max_tokens":1,"messages":[]}'
ANSWER = scripted.answer(200, b'{"data":["as it is"]}')
HEAD = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\n"
WHOLE = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY


@contextmanager
def connected(chain: Chain) -> Iterator[socket.socket]:
    port = int(chain.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def everything(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    # Whoever is refused early may find the connection reset behind the answer.
    with suppress(ConnectionResetError):
        while part := client.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer; only such as say their length."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        (length,) = (line[15:] for line in lines if line.startswith(b"content-length:"))
        found.append((int(head.split()[1]), data[: int(length)]))
        data = data[int(length) :]
    return found


def refusal(data: bytes) -> tuple[int, str]:
    """Status and type of the one error that came, which closes the connection."""
    ((status, body),) = answers(data)
    assert b"\r\nconnection: close\r\n" in data
    assert b"\r\nccr-request-id: ccr-" in data
    error = msgspec.json.decode(body)
    assert error["type"] == "error"
    assert f"ccr-request-id: {error['request_id']}".encode() in data
    return status, error["error"]["type"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx y: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\n folded: yes\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: a\x00b\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        HEAD + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        HEAD + b"content-length: 5, 5\r\n\r\nhello",
        HEAD + b"content-length: +5\r\n\r\nhello",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
)
def test_malformed_requests_get_an_error_envelope_and_reach_no_provider(
    chain: Callable[..., Chain], sent: bytes
) -> None:
    running = chain(scripted.reply("no"))
    with connected(running) as client:
        client.sendall(sent)
        assert refusal(everything(client)) == (400, "invalid_request_error")
    assert running.primary.received == []
    assert running.proxy.events("client.refused")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * (MAX_HEAD // 6),
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * MAX_HEAD + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * MAX_HEAD,
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" + b"x: y\r\n" * MAX_HEAD,
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx: " + b"y" * MAX_HEAD * 9,
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"y" * MAX_HEAD * 9,
    ],
)
def test_a_head_without_end_is_refused(chain: Callable[..., Chain], sent: bytes) -> None:
    running = chain(scripted.reply("no"))
    with connected(running) as client:
        sender = threading.Thread(target=_send, args=(client, sent))
        sender.start()
        assert refusal(everything(client)) == (431, "request_too_large")
        sender.join()
    assert running.primary.received == []


def _send(client: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        for start in range(0, len(data), 4096):
            client.sendall(data[start : start + 4096])


@pytest.mark.parametrize("sent", [b"", b"G", b"\r\n", HEAD, HEAD + b"x: "])
def test_a_head_that_does_not_arrive_in_time_ends_the_connection(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    with connected(chain(scripted.reply("no"))) as client:
        client.sendall(sent)
        said = everything(client)
    assert refusal(said) == (408, "timeout_error") if sent else said == b""


def test_the_limit_of_a_head_covers_the_whole_head(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    stop = threading.Event()
    with connected(chain(scripted.reply("no"))) as client:

        def drip() -> None:
            for number in range(1000):
                if stop.wait(0.02):
                    return
                _send(client, HEAD[number : number + 1] or b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert refusal(everything(client)) == (408, "timeout_error")
        finally:
            stop.set()
            dripping.join()


@pytest.mark.parametrize(
    "framing", [b"content-length: 50\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"]
)
def test_a_body_that_stops_arriving_is_refused(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch, framing: bytes
) -> None:
    monkeypatch.setattr(protocol, "BODY_SECONDS", 0.2)
    running = chain(scripted.reply("no"))
    with connected(running) as client:
        client.sendall(HEAD + framing)
        assert refusal(everything(client)) == (408, "timeout_error")
    assert running.primary.received == []


def test_no_timer_runs_while_an_answer_is_awaited(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IDLE_SECONDS", "HEAD_SECONDS", "BODY_SECONDS"):
        monkeypatch.setattr(protocol, name, 0.1)
    go_on = threading.Event()

    async def slow(request: Received, connection: Connection) -> None:
        import asyncio

        await asyncio.to_thread(go_on.wait, 10)
        await scripted.reply("late")(request, connection)

    with connected(chain(slow)) as client:
        client.sendall(WHOLE)
        # What a timer of the request would close is closed by then.
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        go_on.set()
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "behind",
    [
        b"\x00garbage",
        HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"G" * 99999,
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_bytes_after_a_request_do_not_disturb_its_response(
    chain: Callable[..., Chain], behind: bytes
) -> None:
    running = chain(scripted.reply("whole answer"))
    with connected(running) as client:
        client.sendall(WHOLE + behind)
        (status, body), *refusals = answers(everything(client))
    assert [status for status, _ in refusals] in ([400], [431])
    assert (status, msgspec.json.decode(body)["content"][0]["text"]) == (200, "whole answer")
    assert len(running.primary.received) == 1


def test_a_malformed_request_does_not_affect_those_before_it(chain: Callable[..., Chain]) -> None:
    running = chain([scripted.reply("one"), scripted.reply("two")])
    with connected(running) as client:
        client.sendall(WHOLE + WHOLE + HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n")
        found = answers(everything(client))
    assert [status for status, _ in found] == [200, 200, 400]
    assert len(running.primary.received) == 2


def test_a_connection_with_an_unfinished_body_is_closed_after_its_response(
    chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.2)
    with connected(chain(scripted.reply("no"))) as client:
        client.sendall(HEAD.replace(b"localhost", b"evil.example") + b"content-length: 5\r\n\r\n")
        said = client.recv(1 << 16)
        client.sendall(b"whole")
        assert answers(said + everything(client))[0][0] == 403


def test_requests_in_one_write_are_answered_in_order(chain: Callable[..., Chain]) -> None:
    running = chain([scripted.reply("one"), scripted.reply("two")])
    with connected(running) as client:
        client.sendall(
            WHOLE + WHOLE + b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        found = answers(everything(client))
    assert [status for status, _ in found] == [200, 200, 200]
    texts = [msgspec.json.decode(body)["content"][0]["text"] for _, body in found[:2]]
    assert texts == ["one", "two"]


def test_trailers_do_not_become_headers(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.reply("primary"), scripted.reply("spare"))
    trailers = b"x-api-key: smuggled\r\nx-ccf-debug-skip-anthropic: 1\r\n"
    chunked = HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    with connected(running) as client:
        client.sendall(chunked + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(BODY), BODY, trailers))
        ((_, body),) = answers(everything(client))
    assert b"primary" in body
    assert running.primary.received[0].header("x-api-key") is None
    assert running.primary.received[0].body == BODY


def sent(chain: Chain, target: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    """All that comes back for one request on a connection of its own."""
    head = b"%s %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n" % (method, target)
    length = b"content-length: %d\r\n" % len(body) if body else b""
    with connected(chain) as client:
        client.sendall(head + length + b"\r\n" + body)
        return everything(client)


@pytest.mark.parametrize(
    "target",
    [
        b"/v1//x",
        b"/v1/../../x",
        b"/v1/./x/",
        b"/v1/%2e%2e/%2F",
        b"/v1/%00",
        b"/v1/%ff%fe?%ff",
        b"/v1/%zz?%",
        b"/v1/models/%ff",
        b"/v1/[::1",
        b"/v1/;a=b@host:99999",
        b"/v1/x?url=http://[::1&a=%20+",
        b'/v1/{x}|^`"<>\\?{}|^`"<>\\\'',
        b"/api/?",
        b"/api/" + b"x" * (MAX_TARGET - 5),
        b"/v1/models?after_id=" + b"x" * (MAX_TARGET - 20),
    ],
    ids=lambda target: target[:24].decode(),
)
def test_an_unusual_target_is_passed_on_unchanged(
    chain: Callable[..., Chain], target: bytes
) -> None:
    running = chain(ANSWER)
    assert answers(sent(running, target)) == [(200, b'{"data":["as it is"]}')]
    (received,) = running.primary.received
    assert received.target == target.removesuffix(b"?").decode()


@pytest.mark.parametrize(
    ("target", "passed_on"),
    [
        (b"/v1/x?a=b#fragment", "/v1/x?a=b"),
        (b"http://localhost/v1/x?a=b", "/v1/x?a=b"),
        (b"http://evil.example:80/v1/x", "/v1/x"),
        (b"http://name:word@localhost/v1/x", "/v1/x"),
    ],
)
def test_only_the_primary_gets_a_passed_through_request(
    chain: Callable[..., Chain], target: bytes, passed_on: str
) -> None:
    running = chain(ANSWER)
    assert answers(sent(running, target))[0][0] == 200
    assert [received.target for received in running.primary.received] == [passed_on]


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/a\x01b",
        b"/v1/a\tb",
        b"/v1/a\x7fb",
        b"/v1/a\x00b",
        b"/v1/x?a=\x1f",
        b"/v1/a b",
        b"/v1/\xc3\xa9",
        b"/v1/x?a=\xff\xfe",
        b"v1/x",
        b"?a=b",
        b"http://[::1/v1/x",
        b"http://localhost:99999/v1/x",
        b"http:///v1/x",
    ],
)
def test_a_malformed_target_is_refused(chain: Callable[..., Chain], target: bytes) -> None:
    running = chain(ANSWER)
    assert refusal(sent(running, target)) == (400, "invalid_request_error")
    assert running.primary.received == []


@pytest.mark.parametrize("target", [b"localhost:443", b"evil.example:443", b"/v1/messages"])
def test_connect_is_refused(chain: Callable[..., Chain], target: bytes) -> None:
    running = chain(ANSWER)
    assert refusal(sent(running, target, b"CONNECT")) == (400, "invalid_request_error")
    assert running.primary.received == []


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"OPTIONS", b"*"),
        (b"GET", b"*"),
        (b"GET", b"//v1/x"),
        (b"GET", b"//evil.example/v1/x"),
        (b"GET", b"/../v1/x"),
        (b"GET", b"/v1/a%0d%0ab"),
        (b"GET", b"/v1"),
    ],
)
def test_an_unknown_target_is_not_found(
    chain: Callable[..., Chain], method: bytes, target: bytes
) -> None:
    running = chain(ANSWER)
    assert refusal(sent(running, target, method)) == (404, "not_found_error")
    assert running.primary.received == []


@pytest.mark.parametrize("start", [b"/v1/x?q=", b"/api/", b"/v1/messages?q=", b"/v1/models/"])
@pytest.mark.parametrize("length", [MAX_TARGET + 1, 64 * 1024, 1 << 20])
def test_an_endless_target_is_refused(
    chain: Callable[..., Chain], start: bytes, length: int
) -> None:
    running = chain(ANSWER)
    target = start + b"y" * (length - len(start))
    assert refusal(sent(running, target)) == (414, "request_too_large")
    assert running.primary.received == []
    assert running.proxy.state == {}


@pytest.mark.parametrize("path", ["/v1/x", "/v1/models"])
def test_a_target_that_makes_no_url_of_the_primary_is_refused(
    chain: Callable[..., Chain], path: str
) -> None:
    running = chain(ANSWER)
    config: Path = running.proxy.paths.config
    long = f"{running.primary.url}/{'x' * 40_000}"
    config.write_text(config.read_text().replace(running.primary.url, long))
    response = httpx.get(f"{running.url}{path}?q={'y' * 30_000}")
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert "URL too long" in response.json()["error"]["message"]
