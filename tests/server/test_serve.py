"""Start and stop: the address, the files, signals, the modules, and addresses that are refused."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest

from ccfallback import files
from ccfallback.errors import ServeError
from ccfallback.paths import Paths
from ccfallback.server.breakers import Breakers
from ccfallback.server.serve import BackgroundProxy, Proxy
from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Connection, Received
from ccfallback.state import server_file, signatures_file
from tests.conftest import Chain, RunningProxy
from tests.shared_state import until

ASK = {"model": "claude-x", "max_tokens": 10, "messages": [], "stream": True}


def start(paths: Paths, *arguments: str) -> tuple["subprocess.Popen[str]", str]:
    """`ccfallback serve` in a process of its own, and its address."""
    options = ["--config", paths.config, "--state", paths.state, "--log-file", paths.log]
    command = [sys.executable, "-m", "ccfallback", *map(str, options), "serve", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        match = re.search(r"ANTHROPIC_BASE_URL=(http://\S+)", line)
        if match:
            return process, match[1]
    raise AssertionError(seen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_exit_code_0(paths: Paths, number: signal.Signals) -> None:
    process, url = start(paths, "--port", "0")
    known = server_file.read(paths.server)
    assert known is not None
    assert (known.url, known.pid) == (url, process.pid)
    assert httpx.get(url).status_code == 200
    process.send_signal(number)
    assert process.wait(40) == 0
    assert server_file.read(paths.server) is None
    assert process.stdout is not None
    process.stdout.close()
    events = [msgspec.json.decode(line)["event"] for line in paths.log.read_bytes().splitlines()]
    assert events[0] == "server.start"
    assert events[-1] == "server.stop"
    assert paths.log.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="there, the signal ends a process at once")
def test_further_signals_do_not_end_a_server_that_saves(paths: Paths) -> None:
    process, url = start(paths, "--port", "0")
    with process:
        # It can't withdraw its address while somebody else has the file.
        with files.locked(paths.server):
            process.send_signal(signal.SIGTERM)
            until(lambda: server_file.refuses(url))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                process.send_signal(number)
        assert process.wait(40) == 0
    assert server_file.read(paths.server) is None
    assert b'"server.stop"' in paths.log.read_bytes()


def test_a_stream_finishes_before_the_server_ends(chain: Callable[..., Chain]) -> None:
    go_on = threading.Event()
    events = scripted.events_of(msgspec.json.encode(scripted.message("to the end")))

    async def wait(_request: Received, connection: Connection) -> None:
        import asyncio

        await asyncio.to_thread(go_on.wait, 10)
        for event in events[3:]:
            await connection.chunk(event)

    running = chain(scripted.stream(events[:3], then=wait))
    with httpx.stream("POST", f"{running.url}/v1/messages", json=ASK) as answer:
        parts = answer.iter_bytes()
        text = next(parts)
        stopping = threading.Thread(target=running.proxy.stop)
        stopping.start()
        go_on.set()
        text += b"".join(parts)
        stopping.join()
    assert text == b"".join(events)


def test_a_port_that_is_taken_is_an_error_for_a_person(paths: Paths) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ServeError) as caught:
            Proxy(paths).bind(port=other.getsockname()[1])
    assert "--port" in caught.value.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_the_server_does_not_listen_beyond_loopback_without_tokens(paths: Paths, host: str) -> None:
    with pytest.raises(ServeError, match="token"):
        Proxy(paths).bind(host=host, port=0)


def test_the_log_holds_no_secret_and_no_content(chain: Callable[..., Chain]) -> None:
    leaky = scripted.error(401, "authentication_error", "bad key fallback-key-1, or users-own-key")
    running = chain(scripted.error(500, "api_error"), leaky)
    httpx.post(
        f"{running.url}/v1/messages",
        json={**ASK, "messages": [{"role": "user", "content": "the content of the message"}]},
        headers={"x-api-key": "users-own-key"},
    )
    running.proxy.wait_for("request.error")
    everything = str(running.proxy.records)
    assert "request.debug_curl" in everything
    assert "fallback-key-1" not in everything
    assert "users-own-key" not in everything
    assert "the content of the message" not in everything


def test_what_an_upstream_quotes_stays_out_of_the_log(
    upstream: Callable[..., scripted.ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> None:
    words = "messages.0.content: the secret plan of the user is bad; header-secret query-secret"
    leaky = upstream(scripted.error(529, "overloaded_error", words))
    proxy = running(
        f'[primary]\nbase_url = "{leaky.url}/v1?key=query-secret"\n'
        '[primary.headers]\n"X-Auth-Token" = "header-secret"\n'
    )
    body = {**ASK, "messages": [{"role": "user", "content": "the secret plan of the user"}]}
    httpx.post(f"{proxy.url}/v1/messages", json=body, headers={"x-custom": "custom-secret"})
    proxy.wait_for("request.error")
    everything = str(proxy.records)
    assert "messages.0.content" in everything
    for secret in ("secret plan", "header-secret", "query-secret", "custom-secret"):
        assert secret not in everything


def test_a_running_server_publishes_its_address_again(paths: Paths) -> None:
    first = RunningProxy(paths)
    try:
        second = RunningProxy(paths)
        second.stop()
        known = server_file.read(paths.server)
        assert known is not None
        assert known.url == first.url
        paths.server.unlink()
        asyncio.run(appears(paths))
        known = server_file.read(paths.server)
        assert known is not None
        assert known.url == first.url
    finally:
        first.stop()


def test_a_slow_write_at_the_end_does_not_skip_the_last_ones(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, closing = threading.Event(), threading.Event()
    close = Breakers.close

    def write(*_: object, **__: object) -> None:
        writing.set()
        closing.wait(10)

    def closed(breakers: Breakers) -> None:
        close(breakers)
        closing.set()

    monkeypatch.setattr(signatures_file, "write", write)
    monkeypatch.setattr(Breakers, "close", closed)
    proxy = RunningProxy(paths)
    assert paths.server.exists()
    proxy._background.proxy.services.signatures.remember(["signature"], "b", primary=False)
    assert writing.wait(10)
    proxy.stop()
    assert not paths.server.exists()


async def appears(paths: Paths) -> None:
    """Wait for the note."""
    async with asyncio.timeout(10):
        while not paths.server.exists():
            await asyncio.sleep(0.05)


def test_usage_and_times_are_read_from_the_stream(chain: Callable[..., Chain]) -> None:
    running = chain(scripted.error(529, "overloaded_error"), scripted.reply("hello"))
    httpx.post(f"{running.url}/v1/messages", json=ASK)
    record = running.proxy.wait_for("request.complete")
    data = record["data"]
    assert data["provider"] == "fallback1"
    assert (data["inputTokens"], data["outputTokens"]) == (12, 7)
    assert (data["attempts"], data["status"], data["stream"]) == (2, 200, True)
    assert data["model"] == "claude-x"
    assert 0 < data["ttft"] <= data["latency"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["timestamp"])
    assert record["requestId"].startswith("ccr-")


def test_a_success_is_in_the_file_soon(
    running: Callable[[str], RunningProxy], chain: Callable[..., Chain], tmp_path: Path
) -> None:
    proxied = chain(scripted.reply("hello"))
    httpx.post(f"{proxied.url}/v1/messages", json=ASK)
    proxied.proxy.stop()
    assert proxied.proxy.state["anthropic-primary"]["lastSuccess"] is not None
    assert proxied.proxy.paths.state.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="modes say nothing there")
def test_files_that_others_can_open_cause_a_warning(
    paths: Paths, running: Callable[[str], RunningProxy]
) -> None:
    paths.state.parent.mkdir(parents=True)
    paths.state.write_bytes(b"{}")
    paths.state.chmod(0o644)
    proxy = running("")
    paths.config.chmod(0o600)
    said = proxy.wait_for("files.open", 2)
    assert said["level"] == "warn"
    assert {r["data"]["path"] for r in proxy.events("files.open")} == {
        str(paths.config),
        str(paths.state),
    }


def test_a_private_proxy_does_not_publish_its_address(paths: Paths) -> None:
    with BackgroundProxy(paths, private=True):
        assert server_file.read(paths.server) is None
    with BackgroundProxy(paths) as proxy:
        known = server_file.read(paths.server)
        assert known is not None
        assert known.url == proxy.url
    assert server_file.read(paths.server) is None


def test_a_proxy_that_fails_to_start_raises_in_the_thread_that_waits_for_it(paths: Paths) -> None:
    paths.state.parent.mkdir(parents=True)
    paths.state.write_text('{"version": 1, "providers": {}}')
    proxy = BackgroundProxy(paths)
    # Nothing can read the state any more.
    proxy.proxy.services.breakers.close()
    with pytest.raises(ServeError):
        proxy.__enter__()
