"""Model servers of this machine are recognised by their answers."""

import socket
import threading
from contextlib import ExitStack, suppress

import pytest

from ccfallback.cli.providers import local_servers
from ccfallback.cli.providers.findings import LocalServer
from ccfallback.cli.providers.local_servers import find_servers, ports_to_ask
from ccfallback.credentials.fetch import Fetcher
from ccfallback.server.trust import TrustedRoots
from tests.cli.model_servers import LLAMA, OLLAMA, SGLANG, STUDIO, VLLM, Answers, serve

fetch = Fetcher(TrustedRoots().load, lambda _url: None, local_servers.MOST_BYTES)

OLD_STUDIO = {**STUDIO, "/v1/messages": (200, {"error": "Unexpected endpoint or method."})}
NOT_LOADED = {
    **STUDIO,
    "/api/v0/models": (
        200,
        {"data": [{"id": "a", "arch": "q", "state": "not-loaded", "max_context_length": 9}]},
    ),
}
OLD_LLAMA = {path: LLAMA[path] for path in LLAMA if path != "/v1/messages"}


def find(*answers: Answers) -> list[LocalServer]:
    with ExitStack() as stack:
        ports = [stack.enter_context(serve(each))[0] for each in answers]
        return find_servers(ports, fetch)


@pytest.mark.parametrize(
    ("answers", "preset", "speaks", "model", "window"),
    [
        (OLLAMA, "ollama", True, "gemma4:latest", 65536),
        ({**OLLAMA, "/api/ps": (200, {"models": []})}, "ollama", True, "qwen3-coder:30b", 40960),
        ({**OLLAMA, "/api/version": (200, {"version": "0.9.6"})}, "ollama", False, "gemma4:latest",
         65536),
        ({**OLLAMA, "/api/version": (500, "")}, "ollama", False, "gemma4:latest", 65536),
        ({"/": OLLAMA["/"]}, "ollama", False, "", None),
        (LLAMA, "llamacpp", True, "q.gguf", 49152),
        (OLD_LLAMA, "llamacpp", False, "q.gguf", 49152),
        (VLLM, "vllm", True, "Qwen/Qwen3", 131072),
        (SGLANG, "sglang", True, "q", 40960),
        (STUDIO, "lmstudio", True, "b", 65536),
        (OLD_STUDIO, "lmstudio", False, "b", 65536),
        (NOT_LOADED, "lmstudio", True, "a", None),
    ],
)  # fmt: skip
def test_a_server_is_recognised(
    answers: Answers, preset: str, speaks: bool, model: str, window: int | None
) -> None:
    (found,) = find(answers)
    assert (found.preset, found.speaks_messages) == (preset, speaks)
    assert (found.model, found.window) == (model, window)


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"/": (200, "hello"), "/v1/models": (200, "not JSON")},
        {"/v1/models": (200, {"data": [{"id": "m", "owned_by": "somebody"}]})},
        {"/v1/models": (200, {"data": {"id": "vllm"}})},
        {"/v1/models": (200, [[]])},
        {"/v1/models": (200, "[" * 100_000)},
        {"/": (200, "x" * (local_servers.MOST_BYTES + 1))},
    ],
)
def test_another_server_is_ignored(answers: Answers) -> None:
    assert find(answers) == []


def test_our_own_proxy_is_not_asked_for_models() -> None:
    """It would ask Anthropic."""
    with serve({"/": (200, "ccfallback 1.0: 2 providers\n"), **VLLM}) as (port, requests):
        assert find_servers([port], fetch) == []
    assert requests == ["GET /"]


def test_ollama_gets_no_path_that_an_old_version_does_not_know() -> None:
    with serve(OLLAMA) as (port, requests):
        find_servers([port], fetch)
    assert {request.split()[1] for request in requests} <= {"/", *OLLAMA} - {"/v1/messages"}


@pytest.mark.parametrize("name", ["a b", "x\x1b[31m", "-rf", "m" * 300, "", 7, "bge-m3"])
def test_a_name_that_is_no_model_is_not_used(name: object) -> None:
    listed = {"data": [{"id": name, "owned_by": "vllm"}]}
    (found,) = find({"/v1/models": (200, listed)})
    assert found.model == ""


def test_servers_come_in_the_order_of_the_ports() -> None:
    assert [each.preset for each in find(SGLANG, VLLM, LLAMA)] == ["sglang", "vllm", "llamacpp"]


def test_a_server_that_never_answers_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, serve(VLLM) as (port, _):
        found = find_servers([silent.getsockname()[1], port], fetch)
        assert [each.preset for each in found] == ["vllm"]


def test_a_server_that_answers_byte_by_byte_does_not_keep_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_servers, "ALL_SECONDS", 0.2)
    over = threading.Event()

    def drip(server: socket.socket) -> None:
        connections = [server.accept()[0], server.accept()[0]]
        connections[1].sendall(b"HTTP/1.1 200 OK\r\nX: ")
        with suppress(OSError):
            while not over.wait(0.01):
                connections[1].sendall(b"x")
        for each in connections:
            each.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        assert find_servers([server.getsockname()[1]], fetch) == []
        over.set()
        thread.join()


def test_a_redirect_is_not_followed() -> None:
    with serve(VLLM) as (port, requests):
        assert find({"/v1/models": (302, f"http://127.0.0.1:{port}/v1/models")}) == []
    assert requests == []


@pytest.mark.parametrize(
    ("value", "port"),
    [
        ("127.0.0.1:11500", 11500),
        ("http://0.0.0.0:11500/", 11500),
        ("11500", 11500),
        ("localhost", None),
        ("127.0.0.1:0", None),
        ("127.0.0.1:99999", None),
        ("127.0.0.1:²", None),
        ("1" * 5000, None),
    ],
)
def test_a_variable_tells_another_port(value: str, port: int | None) -> None:
    assert ports_to_ask({"OLLAMA_HOST": value})[len(local_servers.PORTS) :] == (
        [] if port is None else [port]
    )
