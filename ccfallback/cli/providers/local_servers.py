"""Ask the usual ports of this machine for model servers, on the loopback interface only.

A server is recognised by its answers, not by its port. Paths are chosen so that no server runs a
model or passes the question on: first `/`, which tells Ollama and our own proxies, then the lists
of models. Old versions of Ollama hang on paths that they do not know, so it only gets its own.
"""

import re
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import msgspec

from ccfallback.cli.providers.findings import LocalServer
from ccfallback.config.windows import read_window
from ccfallback.credentials.fetch import Fetch, FetchFailed, Reply
from ccfallback.messages.body import decode_json

PORTS: Final = (11434, 1234, 8080, 8000, 30000)
"""The usual ports of Ollama, LM Studio, llama.cpp, vLLM and SGLang."""

CONNECT_SECONDS: Final = 0.3
ANSWER_SECONDS: Final = 2.0
ALL_SECONDS: Final = 6.0
"""How long all questions to all ports may take together."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""A longer answer is not read: a list of models has some kilobytes."""

_HOSTS: Final = ("127.0.0.1", "[::1]")
_OLLAMA: Final = b"Ollama is running"
_OURS: Final = b"ccfallback"
_MESSAGES_SINCE: Final = (0, 14)
"""The version of Ollama that brought the Messages API."""

_OWNERS: Final = {"llamacpp": "llamacpp", "vllm": "vllm", "sglang": "sglang"}
"""`owned_by` in the list of models, and the preset of the server."""

_NO_ENDPOINT: Final = frozenset({404, 405, 501})
_MODEL: Final = re.compile(r"[A-Za-z0-9][\w./:@+-]{0,199}", re.ASCII)
_EMBEDDING: Final = re.compile(r"embed|rerank|\bbge\b|minilm", re.IGNORECASE)


def find_servers(ports: Iterable[int], fetch: Fetch) -> list[LocalServer]:
    """The model servers on these ports, in the order of the ports. Bounded in time."""
    ports = list(dict.fromkeys(ports))
    found: dict[int, LocalServer] = {}

    def look(port: int) -> None:
        with suppress(FetchFailed):
            server = _ask(port, fetch)
            if server is not None:
                found[port] = server

    # Daemons: a server that sends one byte at a time must not keep the command from ending.
    threads = [threading.Thread(target=look, args=(port,), daemon=True) for port in ports]
    until = monotonic() + ALL_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - monotonic()))
    answered = dict(found)
    return [answered[port] for port in ports if port in answered]


def ports_to_ask(environ: Mapping[str, str]) -> list[int]:
    """The usual ports, and those that variables of the servers name."""
    found = [*PORTS]
    for name in ("OLLAMA_HOST", "LLAMA_ARG_PORT"):
        port = environ.get(name, "").strip().rstrip("/").rpartition(":")[2]
        if port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536:
            found.append(int(port))
    return found


def _ask(port: int, fetch: Fetch) -> LocalServer | None:
    """The server at a port; `None` if there is none that is known. Raises `FetchFailed`."""
    host = next((host for host in _HOSTS if _listens(host, port)), None)
    if host is None:
        return None
    questions = _Questions(f"http://{host}:{port}", fetch)
    home = questions.get("/")
    if home is None or _OURS in home.body.lower():
        return None
    if home.body.strip().startswith(_OLLAMA):
        return _ollama(port, questions)
    listed = questions.table("/v1/models")
    models = _entries(listed, "data")
    owners = [str(each.get("owned_by")) for each in models]
    preset = next((_OWNERS[owner] for owner in owners if owner in _OWNERS), None)
    if preset is None:
        return _lm_studio(port, questions)
    model = next(_names(models, "id"), "")
    window = read_window(questions.table("/props"), model) if preset == "llamacpp" else None
    return LocalServer(
        preset=preset,
        port=port,
        speaks_messages=questions.has_messages(),
        model=model,
        window=window or read_window(listed, model),
    )


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host.strip("[]"), port), CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _ollama(port: int, questions: "_Questions") -> LocalServer:
    version = questions.table("/api/version")
    numbers = re.match(r"(\d{1,6})\.(\d{1,6})", str((version or {}).get("version", "")))
    speaks = numbers is not None and (int(numbers[1]), int(numbers[2])) >= _MESSAGES_SINCE
    loaded = questions.table("/api/ps")
    # A model that runs elsewhere is not a local one.
    installed = [
        each
        for each in _entries(questions.table("/api/tags"), "models")
        if not each.get("remote_host") and not str(each.get("name")).endswith("cloud")
    ]
    names = list(_names(installed, "name"))
    model = next((name for name in _names(_entries(loaded, "models"), "name") if name in names), "")
    window = read_window(loaded, model) if model else None
    model = model or next(iter(names), "")
    if model and window is None:
        window = read_window(questions.table("/api/show", {"model": model}), model)
    return LocalServer(
        preset="ollama", port=port, speaks_messages=speaks, model=model, window=window
    )


def _lm_studio(port: int, questions: "_Questions") -> LocalServer | None:
    listed = questions.table("/api/v0/models")
    models = [each for each in _entries(listed, "data") if "state" in each and "arch" in each]
    if not models:
        return None
    models = [each for each in models if each.get("type") != "embeddings"]
    loaded = next(_names((each for each in models if each.get("state") == "loaded"), "id"), "")
    return LocalServer(
        preset="lmstudio",
        port=port,
        speaks_messages=questions.has_messages(),
        model=loaded or next(_names(models, "id"), ""),
        # What a model that is not loaded could have is not what it gets.
        window=read_window(listed, loaded) if loaded else None,
    )


def _entries(answer: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    listed = (answer or {}).get(name)
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _names(models: Iterable[Mapping[str, Any]], key: str) -> Iterator[str]:
    """The names of models that can write; a value that can't be a name is skipped."""
    for model in models:
        name = model.get(key)
        if isinstance(name, str) and _MODEL.fullmatch(name) and not _EMBEDDING.search(name):
            yield name


class _Questions:
    """Questions to one server."""

    def __init__(self, base_url: str, fetch: Fetch) -> None:
        self._base_url = base_url
        self._fetch = fetch

    def _send(self, method: str, path: str, body: bytes) -> Reply | None:
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            return self._fetch(
                method, self._base_url + path, headers, body, seconds=ANSWER_SECONDS, direct=True
            )
        except FetchFailed:
            return None

    def get(self, path: str) -> Reply | None:
        """The answer at a path; `None` if there is none in time."""
        return self._send("GET", path, b"")

    def table(self, path: str, question: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The JSON object at a path; with a question it is sent by POST."""
        body = b"" if question is None else msgspec.json.encode(question)
        reply = self._send("POST" if body else "GET", path, body)
        if reply is None or reply.status != 200:
            return None
        return _object(reply.body)

    def has_messages(self) -> bool:
        """Whether there is an endpoint of the Messages API: it refuses an empty request."""
        reply = self._send("POST", "/v1/messages", b"{}")
        if reply is None or reply.status in _NO_ENDPOINT:
            return False
        # LM Studio answers 200 on paths that it does not have.
        return b"unexpected endpoint" not in reply.body.lower()


def _object(body: bytes) -> dict[str, Any] | None:
    found = decode_json(body)
    return found if isinstance(found, dict) else None
