"""The JavaScript clients accept every stream: Anthropic's TypeScript SDK and Vercel's AI SDK.

npm installs both into a temporary folder, once for all workers. Where there is no Node.js or npm,
or npm cannot install them, for example without network, the tests are skipped.
"""

import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from ccfallback import files
from ccfallback.simulator import scripted, scripted_openai
from ccfallback.simulator.scripted import COMMENT, PING, Received, Script, ScriptedUpstream
from tests.conftest import RunningProxy

PACKAGES: Final = ("@anthropic-ai/sdk@1.14.0", "ai@6.0.326", "@ai-sdk/anthropic@3.0.140")
SCRIPTS: Final = Path(__file__).parent / "javascript"
INSTALL_SECONDS: Final = 60

THINKING = {"type": "thinking", "thinking": "Let me see: é 漢.", "signature": "c2lnbmVk"}
TEXT = {"type": "text", "text": 'Two calls - one é and one 漢, "quoted" and\nin two lines.'}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a", "at": [1, 2]}}
EMPTY_CALL = {"type": "tool_use", "id": "toolu_2", "name": "List", "input": {}}
ANSWERS: dict[str, list[dict[str, Any]]] = {
    "all": [THINKING, TEXT, CALL, EMPTY_CALL],
    "text": [TEXT],
    "calls": [EMPTY_CALL, CALL],
    "thinking and text": [THINKING, TEXT],
    "thinking and a call": [THINKING, CALL],
    "long": [{"type": "text", "text": "漢字 and é, \U0001f600. " * 5000}],
}
TOOLS = [
    {"name": name, "description": "d", "input_schema": {"type": "object", "properties": {}}}
    for name in ("Read", "List")
]
Content = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository with both clients, and the scripts that call them."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("there is no Node.js or no npm")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "javascript"
    result = folder / "result.txt"
    folder.mkdir(exist_ok=True)
    with files.locked(result, timeout=2 * INSTALL_SECONDS):
        if not result.exists():
            shutil.copytree(SCRIPTS, folder, dirs_exist_ok=True)
            result.write_text(install(npm, folder), encoding="utf-8")
    if failure := result.read_text(encoding="utf-8"):
        pytest.skip(f"npm cannot install the clients: {failure}")
    return folder


def install(npm: str, folder: Path) -> str:
    """Install both clients; return why that failed, or nothing."""
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--engine-strict"]
    patience = ["--fetch-retries=0", "--fetch-timeout=20000"]
    try:
        done = subprocess.run(
            [npm, "install", "--prefix", str(folder), *options, *patience, *PACKAGES],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not within {INSTALL_SECONDS} s"
    if not done.returncode:
        return ""
    return next(iter(done.stderr.decode(errors="replace").splitlines()), "it does not say why")


RunScript = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def run_script(packages: Path) -> Iterator[RunScript]:
    """What a client makes of the answers to requests, which have the given headers too.

    One process of each client serves all tests, because its start takes most of the time.
    """
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as stack:

        def run(
            name: str, url: str, asks: list[Any], headers: Mapping[str, str] | None = None
        ) -> list[dict[str, Any]]:
            if name not in processes:
                processes[name] = stack.enter_context(
                    subprocess.Popen(
                        ["node", str(packages / f"{name}.mjs")],
                        cwd=packages,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                    )
                )
            process = processes[name]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(msgspec.json.encode([url, asks, headers or {}]) + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, "the client has ended; see its stderr"
            results: list[dict[str, Any]] = msgspec.json.decode(line)
            return results

        yield run


def asks(names: Iterable[str]) -> list[dict[str, Any]]:
    """A request for each of these answers, as both clients take it."""
    return [
        {
            "model": "claude-sonnet-4-5",
            "max_tokens": 4096,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "tools": TOOLS,
            "messages": [{"role": "user", "content": name}],
        }
        for name in names
    ]


def by_name(script: Callable[[Content], Script]) -> Callable[[Received], Script]:
    """A route that gives the answer whose name the request's last message is."""

    def route(request: Received) -> Script:
        said = request.json["messages"][-1]["content"]
        name = said if isinstance(said, str) else said[0]["text"]
        return script(ANSWERS[name])

    return route


# What the upstreams send.


def events_of(content: Content) -> list[bytes]:
    """The events of an answer, with a comment and a ping among them."""
    reason = "tool_use" if content[-1]["type"] == "tool_use" else "end_turn"
    whole = scripted.message(content, model="claude-sonnet-4-5", stop_reason=reason)
    first, *others = scripted.events_of(msgspec.json.encode(whole))
    return [first, COMMENT, PING, *others]


def anthropic_stream(content: Content) -> Script:
    """A stream in Anthropic's format."""
    return scripted.stream(events_of(content))


def crlf_stream(content: Content) -> Script:
    """The same, with the other kind of line ends."""
    return scripted.stream([event.replace(b"\n", b"\r\n") for event in events_of(content)])


def in_pieces(script: Callable[[Content], Script]) -> Callable[[Content], Script]:
    """The same answers, a few bytes at a time."""
    return lambda content: scripted.dripping(script(content))


def openai_stream(content: Content) -> Script:
    """A stream in the OpenAI format."""
    return scripted.stream(scripted_openai.chunks_of(content))


def interleaved_stream(content: Content) -> Script:
    """The same, but the calls come at once: the start of each, then their arguments in turn."""
    chunks = scripted_openai.chunks_of(content)
    calls = [chunk for chunk in chunks if b'"tool_calls":[' in chunk]
    others = [chunk for chunk in chunks if b'"tool_calls":[' not in chunk]
    starts = [chunk for chunk in calls if b'"name"' in chunk]
    parts = [
        [c for c in calls if c not in starts and b'"index":%d,"function"' % n in c] for n in (0, 1)
    ]
    mixed = [part for pair in zip(*parts, strict=False) for part in pair]
    rest = [part for each in parts for part in each if part not in mixed]
    before = next(n for n, chunk in enumerate(others) if b'"finish_reason":null' not in chunk)
    return scripted.stream([*others[:before], *starts, *mixed, *rest, *others[before:]])


def whole_openai_answer(content: Content) -> Script:
    """A provider that does not stream."""
    return scripted.answer(200, msgspec.json.encode(scripted_openai.completion(content)))


def whole_anthropic_answer(content: Content) -> Script:
    """The same in Anthropic's format."""
    reason = "tool_use" if content[-1]["type"] == "tool_use" else "end_turn"
    return scripted.answer(200, msgspec.json.encode(scripted.message(content, stop_reason=reason)))


SOURCES: dict[str, tuple[str, Callable[[Content], Script]]] = {
    "primary": ("", anthropic_stream),
    "primary crlf": ("", crlf_stream),
    "primary in pieces": ("", in_pieces(anthropic_stream)),
    "anthropic": ("anthropic", anthropic_stream),
    "anthropic crlf": ("anthropic", crlf_stream),
    "anthropic whole": ("anthropic", whole_anthropic_answer),
    "openai": ("openai", openai_stream),
    "openai in pieces": ("openai", in_pieces(openai_stream)),
    "openai interleaved": ("openai", interleaved_stream),
    "openai whole": ("openai", whole_openai_answer),
}
Start = Callable[..., RunningProxy]


@pytest.fixture
def source(
    upstream: Callable[..., ScriptedUpstream], running: Callable[[str], RunningProxy]
) -> Start:
    """Starts a proxy whose primary, or whose only fallback of a format, answers with a route."""

    def start(format: str, route: Callable[[Received], Script]) -> RunningProxy:
        primary = upstream(scripted.error(529, "overloaded_error"))
        if not format:
            primary.route = route
            return running(f'[primary]\nbase_url = "{primary.url}"\n')
        fallback = upstream()
        fallback.route = route
        return running(
            f'[primary]\nbase_url = "{primary.url}"\n[[providers]]\nname = "spare"\n'
            f'base_url = "{fallback.url}"\nformat = "{format}"\napi_key = "spare-key"\n'
        )

    return start


def names_for(source: str) -> dict[str, list[dict[str, Any]]]:
    """The answers that a source gives; a long one in pieces takes too long."""
    return {n: c for n, c in ANSWERS.items() if n != "long" or "pieces" not in source}


def without_signatures(blocks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The blocks, without the signatures, which differ with the provider."""
    return [{key: value for key, value in each.items() if key != "signature"} for each in blocks]


@pytest.mark.parametrize("name", SOURCES)
def test_the_typescript_sdk_accepts_every_stream(
    name: str, run_script: RunScript, source: Start
) -> None:
    format, script = SOURCES[name]
    proxy = source(format, by_name(script))
    results = run_script("anthropic_sdk", proxy.url, asks(names_for(name)))
    for result, (asked, content) in zip(results, names_for(name).items(), strict=True):
        assert "error" not in result, (asked, result["error"])
        expected = without_signatures(content)
        assert without_signatures(result["message"]["content"]) == expected, asked
        assert without_signatures(result["blocks"]) == expected, asked
        assert all(b["signature"] for b in result["blocks"] if b["type"] == "thinking"), asked
        assert result["text"] == "".join(block.get("text", "") for block in content)
        assert result["thinking"] == "".join(block.get("thinking", "") for block in content)
        calls = content[-1]["type"] == "tool_use"
        assert result["message"]["stop_reason"] == ("tool_use" if calls else "end_turn")
        assert result["message"]["usage"]["output_tokens"] == 7
        assert result["message"]["usage"]["input_tokens"] == 12
        assert_blocks_come_one_after_the_other(result["order"], len(content))
        if not format:
            assert b64decode(result["bytes"]) == bytes_of(name, content), asked


def bytes_of(source: str, content: Content) -> bytes:
    """All that a primary sends."""
    sent = b"".join(events_of(content))
    return sent.replace(b"\n", b"\r\n") if "crlf" in source else sent


@pytest.mark.parametrize("name", SOURCES)
def test_the_typescript_sdk_accepts_the_streams_that_claude_code_gets(
    name: str, run_script: RunScript, source: Start
) -> None:
    format, script = SOURCES[name]
    proxy = source(format, by_name(script))
    claude = {"user-agent": "claude-cli/2.1.332 (external, cli)", "x-app": "cli"}
    results = run_script("anthropic_sdk", proxy.url, asks(names_for(name)), claude)
    for result, (asked, content) in zip(results, names_for(name).items(), strict=True):
        assert "error" not in result, (asked, result["error"])
        # Only the message counts: the stops of blocks may come later, for Claude Code alone.
        made = without_signatures(result["message"]["content"])
        assert made == without_signatures(content), asked


def assert_blocks_come_one_after_the_other(order: list[list[Any]], blocks: int) -> None:
    """Every block starts, grows and stops before the next one starts."""
    kinds = [(kind, index) for kind, index in order if kind != "ping"]
    assert kinds[0] == ("message_start", None)
    assert kinds[-2:] == [("message_delta", None), ("message_stop", None)]
    rest = kinds[1:-2]
    indexes = [index for _, index in rest]
    assert indexes == sorted(indexes)
    assert set(indexes) == set(range(blocks))
    for index in range(blocks):
        own = [kind.removeprefix("content_block_") for kind, at in rest if at == index]
        assert (own[0], own[-1]) == ("start", "stop")
        assert set(own[1:-1]) <= {"delta"}


@pytest.mark.parametrize("name", SOURCES)
def test_the_ai_sdk_accepts_every_stream(name: str, run_script: RunScript, source: Start) -> None:
    format, script = SOURCES[name]
    proxy = source(format, by_name(script))
    results = run_script("ai_sdk", proxy.url, asks(names_for(name)))
    for result, (asked, content) in zip(results, names_for(name).items(), strict=True):
        assert result["errors"] == [], asked
        assert [as_anthropic(part) for part in result["content"]] == without_signatures(content)
        assert result["text"] == "".join(block.get("text", "") for block in content)
        assert result["thinking"] == "".join(block.get("thinking", "") for block in content)
        calls = content[-1]["type"] == "tool_use"
        assert result["finish"] == ("tool-calls" if calls else "stop")
        assert (result["usage"]["inputTokens"], result["usage"]["outputTokens"]) == (12, 7)
        if not format:
            assert b64decode(result["bytes"]) == bytes_of(name, content), asked


def as_anthropic(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the AI SDK's content as the block that it was made from."""
    match part["type"]:
        case "reasoning":
            assert part["providerMetadata"]["anthropic"]["signature"]
            return {"type": "thinking", "thinking": part["text"]}
        case "tool-call":
            assert not part.get("invalid"), part
            names = {"id": part["toolCallId"], "name": part["toolName"], "input": part["input"]}
            return {"type": "tool_use", **names}
    return {"type": part["type"], "text": part["text"]}


@pytest.mark.parametrize("client", ["anthropic_sdk", "ai_sdk"])
@pytest.mark.parametrize("name", ["primary", "anthropic", "openai"])
def test_a_torn_stream_is_an_error_for_both_clients(
    name: str, client: str, run_script: RunScript, source: Start
) -> None:
    format, _ = SOURCES[name]
    chunks = scripted_openai.chunks_of([TEXT]) if format == "openai" else events_of([TEXT])
    torn = scripted.stream(chunks[:5] if format != "openai" else chunks[:2], then=scripted.close)
    proxy = source(format, lambda _: torn)
    (result,) = run_script(client, proxy.url, asks(["text"]))
    assert result.get("errors") or result.get("error")
    assert result["text"]


@pytest.mark.parametrize("client", ["anthropic_sdk", "ai_sdk"])
def test_both_clients_understand_the_final_error(
    client: str, run_script: RunScript, source: Start
) -> None:
    proxy = source("openai", lambda _: scripted_openai.error(503, "unavailable"))
    (result,) = run_script(client, proxy.url, asks(["text"]))
    said = result["errors"][0] if client == "ai_sdk" else result["error"]["text"]
    assert "All providers failed" in said
    if client == "anthropic_sdk":
        assert (result["error"]["name"], result["error"]["status"]) == ("InternalServerError", 502)
