"""Requests as Claude Code sends them, and what becomes of each.

`UPDATE_GOLDEN=1` writes down what comes out now; read the difference before it is kept.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback.config.presets import presets
from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.wire.openai.request import to_openai

CASES = sorted((Path(__file__).parent / "cases" / "request").glob("*.json"))

OUTSIDE = frozenset({"reasoning", "thinking", "enable_thinking", "tool_stream"})
"""Members that providers have added to the format."""


def read(case: Path) -> Any:
    return msgspec.json.decode(case.read_bytes())


def translated(case: Path, preset: str, model: str = "m") -> Body:
    asked = Body.parse(msgspec.json.encode(read(case)["asked"]))
    return to_openai(asked, Quirks(**presets()[preset].quirks), model)


def test_there_are_cases() -> None:
    assert len(CASES) == 6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_request_becomes_what_is_written_down(case: Path) -> None:
    written = read(case)
    made = translated(case, written["preset"], written["model"])
    if os.environ.get("UPDATE_GOLDEN"):
        new = msgspec.json.encode({**written, "expected": msgspec.Raw(made.raw)})
        case.write_bytes(msgspec.json.format(new, indent=1) + b"\n")
    assert made.raw == msgspec.json.encode(read(case)["expected"])


@pytest.mark.parametrize(
    "preset", [name for name, row in presets().items() if row.format == "openai"]
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_request_is_what_the_official_client_would_send(case: Path, preset: str) -> None:
    pydantic = pytest.importorskip("pydantic")
    chat = pytest.importorskip("openai.types.chat")
    params = pytest.importorskip("openai.types.chat.completion_create_params")

    def check(kind: Any, value: Any) -> None:
        pydantic.TypeAdapter(kind).validate_python(value, strict=True)

    made = msgspec.json.decode(translated(case, preset).raw)
    is_stream = made.get("stream", False)
    kind = (
        params.CompletionCreateParamsStreaming
        if is_stream
        else params.CompletionCreateParamsNonStreaming
    )
    known = kind.__annotations__ | params.CompletionCreateParamsBase.__annotations__
    assert set(made) <= set(known) | OUTSIDE
    # What is iterable is checked piece by piece: as a whole it would only be looked at lazily.
    check(kind, {**made, "messages": [], "tools": []})
    for tool in made.get("tools", ()):
        check(chat.ChatCompletionFunctionToolParam, tool)
    for message in made["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            check(chat.ChatCompletionContentPartParam, part)
        for call in message.get("tool_calls", ()):
            check(chat.ChatCompletionMessageFunctionToolCallParam, call)
        whole = {key: value for key, value in message.items() if key != "tool_calls"}
        if isinstance(content, list):
            whole["content"] = "parts"
        check(chat.ChatCompletionMessageParam, whole)
