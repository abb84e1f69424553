"""The real Claude Code does a task of several turns on other platforms; see `claude_code`.

The primary is overloaded throughout. The platforms are strict: they refuse what the real ones do.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ccfallback.simulator import SCRIPTED_FORMATS, scripted, scripted_bedrock
from ccfallback.simulator.scripted import Received, Script, ScriptedUpstream
from tests.conftest import RunningProxy
from tests.server.claude_code import needs_claude, run_claude
from tests.server.strict_vertex import StrictVertex

pytestmark = needs_claude

OVERLOADED = scripted.error(529, "overloaded_error")
FIRST, SECOND = "ya29.scripted", "ya29.renewed"


def turns(folder: Path, between: Callable[[], None] = lambda: None) -> Callable[[Received], Any]:
    """The blocks that a model answers with: two calls, one after the other, and a last word.

    `between` is called when the first tool has answered.
    """
    path = str(folder / "work" / "hello.txt")
    write = {"file_path": path, "content": "written by the tool\n"}
    count = {"command": f"cat {path}", "description": "read"}

    def blocks(request: Received) -> list[dict[str, Any]]:
        body = request.json
        text = msgspec.json.encode(body["messages"]).decode()
        if not body.get("tools"):
            return [{"type": "text", "text": "A title"}]
        if '"tool_use_id":"toolu_2"' in text:
            return [{"type": "text", "text": "The file is written."}]
        if '"tool_use_id":"toolu_1"' in text:
            between()
            return [{"type": "tool_use", "id": "toolu_2", "name": "Bash", "input": count}]
        thinking = {"type": "thinking", "thinking": "A file.", "signature": "c2NyaXB0ZWQ="}
        call = {"type": "tool_use", "id": "toolu_1", "name": "Write", "input": write}
        return [thinking, {"type": "text", "text": "I will write it."}, call]

    return blocks


def check(result: Any, folder: Path, proxy: RunningProxy) -> None:
    assert result["is_error"] is False
    assert result["result"] == "The file is written."
    assert (folder / "work" / "hello.txt").read_text() == "written by the tool\n"
    assert proxy.events("request.error") == []


def config(primary: ScriptedUpstream, provider: str) -> str:
    return f'[primary]\nbase_url = "{primary.url}"\n[[providers]]\nname = "cloud"\n{provider}'


def vertex(url: str, token: Path) -> str:
    command = msgspec.json.encode(["cat", str(token)]).decode()
    return (
        f'format = "vertex"\nbase_url = "{url}"\ngoogle = {{ project = "my-project" }}\n'
        f"api_key_command = {command}\n"
    )


def test_a_task_on_vertex(
    tmp_path: Path,
    running: Callable[[str], RunningProxy],
    upstream: Callable[..., ScriptedUpstream],
) -> None:
    answers = turns(tmp_path)
    strict = StrictVertex(lambda request: scripted.reply(answers(request)))
    token = tmp_path / "token"
    token.write_text(FIRST)
    with ScriptedUpstream(route=strict) as server:
        proxy = running(config(upstream(OVERLOADED), vertex(server.url, token)))
        check(run_claude(proxy.url, tmp_path), tmp_path, proxy)
    assert strict.refused == []


def test_a_token_that_expires_in_the_middle_of_a_task_is_renewed(
    tmp_path: Path,
    running: Callable[[str], RunningProxy],
    upstream: Callable[..., ScriptedUpstream],
) -> None:
    token = tmp_path / "token"
    token.write_text(FIRST)

    def expire() -> None:
        token.write_text(SECOND)
        strict.tokens = {SECOND}

    answers = turns(tmp_path, expire)
    strict = StrictVertex(lambda request: scripted.reply(answers(request)), tokens={FIRST})
    with ScriptedUpstream(route=strict) as server:
        proxy = running(config(upstream(OVERLOADED), vertex(server.url, token)))
        check(run_claude(proxy.url, tmp_path), tmp_path, proxy)
    assert [each.partition(" ")[0] for each in strict.refused] == ["401"]


def test_a_task_on_bedrock(
    tmp_path: Path,
    running: Callable[[str], RunningProxy],
    upstream: Callable[..., ScriptedUpstream],
) -> None:
    answers, refused = turns(tmp_path), []

    def route(request: Received) -> Script:
        refusal = scripted_bedrock.refusal(request)
        if refusal is not None:
            refused.append(request.target)
            return refusal
        return SCRIPTED_FORMATS["bedrock"].reply(answers(request))

    with ScriptedUpstream(route=route) as server:
        provider = f'format = "bedrock"\nbase_url = "{server.url}"\napi_key = "bedrock-key"\n'
        proxy = running(config(upstream(OVERLOADED), provider + 'aws = { region = "us-east-1" }\n'))
        check(run_claude(proxy.url, tmp_path), tmp_path, proxy)
    assert refused == []
