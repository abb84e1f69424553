"""The plain form of a request: what it may contain, when it is tried, and what it keeps."""

from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.messages.tools import MOST_TOOLS
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.plain_form import STEPS, apply, may_help
from ccfallback.rectify.rule import Refusal
from ccfallback.wire.openai.request import to_openai
from tests.rectify.drafts import (
    BETAS,
    CAPTURED,
    FULL,
    STRANGE,
    assistant,
    call,
    captured,
    conversations,
    document,
    draft,
    draft_of,
    image,
    members,
    result,
    server_call,
    server_result,
    system,
    text,
    tool,
    user,
)
from tests.rectify.oldest_api import completions_faults, messages_faults

LONG = "Reads a file. " * 200


def newest(body: dict[str, Any]) -> dict[str, Any]:
    """A conversation with everything around it that a new client may send."""
    rich = {
        "oneOf": [{"required": ["a"]}],
        "properties": {
            "a": {"anyOf": [{"type": "null"}, {"type": "string", "format": "uri"}]},
            "b": {"$ref": "#/$defs/b"},
            "c": {"description": LONG},
        },
        "$defs": {"b": {"type": "array", "prefixItems": [{"type": "integer"}]}},
        "additionalProperties": False,
    }
    many = [tool(f"mcp__server__tool_{number}") for number in range(200)]
    return {
        **body,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {
            "effort": "high",
            "format": {"type": "json_schema", "schema": {"type": "object"}},
        },
        "metadata": {"user_id": "u"},
        "temperature": 1,
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
        "speed": "fast",
        "a_member_of_next_year": {},
        "tools": [
            *many,
            {"type": "web_search_20250305", "name": "web_search"},
            {**tool("Read", **rich), "description": LONG, "strict": True, "defer_loading": True},
            *body.get("tools", []),
        ],
    }


def translated(plain: RequestDraft) -> dict[str, Any]:
    """A draft as a provider of the OpenAI format gets it."""
    assert plain.quirks is not None
    return dict(msgspec.json.decode(to_openai(plain.body, plain.quirks, "m").raw))


def has_pictures(body: Any) -> bool:
    return '"image"' in msgspec.json.encode(body).decode()


@pytest.mark.parametrize("before", [*captured(), *FULL], ids=lambda _: "")
def test_the_oldest_apis_accept_the_plain_form_of_real_requests(before: RequestDraft) -> None:
    plain, changed = apply(before)
    assert changed
    assert messages_faults(members(plain), plain.betas) == []
    translatable = RequestDraft(before.body, before.betas, quirks=Quirks())
    assert completions_faults(translated(apply(translatable)[0])) == []


@pytest.mark.usefixtures("untraced")
@given(conversations(), st.booleans())
def test_the_oldest_apis_accept_the_plain_form_of_any_conversation(
    body: dict[str, Any], is_newest: bool
) -> None:
    asked = newest(body) if is_newest else body
    before = draft_of(asked, *(BETAS if is_newest else ()))
    plain, _ = apply(before)
    assert messages_faults(members(plain), plain.betas) == []
    again, changed = apply(plain)
    assert (changed, again.body.raw) == ((), plain.body.raw)
    translatable = RequestDraft(before.body, before.betas, quirks=Quirks())
    assert completions_faults(translated(apply(translatable)[0])) == []


@given(STRANGE, st.booleans())
@example({"messages": [{"role": "user", "content": [[{"source": "a"}]]}]}, False)
def test_no_request_is_too_strange(body: dict[str, Any], is_translated: bool) -> None:
    before = draft_of({"model": "m", "max_tokens": 5, **body}, *BETAS)
    quirks = Quirks() if is_translated else None
    apply(RequestDraft(before.body, before.betas, quirks=quirks))
    for step in STEPS:
        apply(before, {step.name})


def test_each_step_stands_for_itself() -> None:
    body = msgspec.json.decode(CAPTURED[0].read_bytes())["asked"]
    before = draft_of(newest(body), *BETAS)
    for left_out in STEPS:
        names = {step.name for step in STEPS} - {left_out.name}
        _, changed = apply(before, names)
        assert left_out.name not in changed


def test_a_plain_request_stays_as_it_is() -> None:
    before = draft(tools=[{"name": "Read", "input_schema": {"type": "object"}}])
    assert apply(before) == (before, ())


def test_what_was_said_is_kept() -> None:
    before = draft(
        user(text("see"), image(), document()),
        system("Be brief."),
        assistant(
            {"type": "thinking", "thinking": "Let me.", "signature": "s"},
            server_call("srvtoolu_1"),
            {
                **server_result("srvtoolu_1"),
                "content": [{"type": "web_search_result", "title": "Page", "url": "http://x"}],
            },
            call("toolu_1"),
        ),
        user(result("toolu_1", [text("found"), image()]), text("go on")),
        tools=[tool("Bash"), tool("Read")],
        output_config={"format": {"type": "json_schema", "schema": {"title": "Answer"}}},
    )
    plain = members(apply(before)[0])
    said = msgspec.json.encode(plain).decode()
    for words in ("see", "[image omitted]", "[document omitted]", "Be brief.", "Page", "http://x"):
        assert words in said, words
    assert "Let me." not in said
    assert plain["messages"][-1]["content"][0]["content"] == "found\n\n[image omitted]"
    assert "Answer" in plain["system"][0]["text"]


def test_a_question_that_is_only_a_picture_keeps_it() -> None:
    plain, changed = apply(draft(user(image())))
    assert has_pictures(members(plain))
    assert "media" not in changed
    assert not has_pictures(members(apply(draft(user(image(), text("what is wrong?"))))[0]))


def test_the_tools_that_the_conversation_uses_are_kept() -> None:
    tools = [tool(f"t{number}") for number in range(300)]
    before = draft(
        user(text("hi")),
        assistant(call("toolu_1", "t299")),
        user(result("toolu_1", "done")),
        tools=tools,
        tool_choice={"type": "tool", "name": "t280"},
    )
    plain = members(apply(before)[0])
    names = [each["name"] for each in plain["tools"]]
    assert len(names) == MOST_TOOLS
    assert {"t0", "t280", "t299"} <= set(names)
    assert names == sorted(names, key=lambda name: int(name[1:]))


def test_a_long_description_ends_with_a_sentence() -> None:
    plain = members(apply(draft(tools=[{**tool("Read"), "description": LONG}]))[0])
    description = plain["tools"][0]["description"]
    assert 1000 < len(description) <= 1024
    assert description.endswith("file.")
    word = members(apply(draft(tools=[{**tool("Read"), "description": "x" * 5000}]))[0])
    assert len(word["tools"][0]["description"]) == 1024


UNEXPLAINED = (
    (400, "Bad Request"),
    (400, ""),
    (400, "Provider returned error"),
    (400, "I did not understand this request"),
    (413, "Request Entity Too Large"),
    (415, "unsupported media type"),
    (422, "Unprocessable Entity"),
    (200, "the request is malformed"),
    (404, "No endpoints found that support image input"),
    (404, "No endpoints found that support tool use. To learn more about provider routing, visit"),
    (404, "No endpoints found that can handle the requested parameters."),
    (500, "Value is not callable: null at row 12, column 9"),
    (500, "Error rendering prompt with jinja template: Unknown ArrayValue filter: safe"),
    (500, "Unable to generate parser for this template. Automatic parser generation failed"),
    (500, "Failed to parse grammar"),
    (500, 'litellm.BadRequestError: OpenAIException - {"error": {"code": 400}}'),
    (500, "image input is not supported - hint: you may need to provide the mmproj"),
    (500, "upstream error: status code 400"),
    (501, "streaming with tools is not implemented"),
    (501, "This server does not support tool calls. Start it with `--jinja`"),
)

HOPELESS = (
    (400, "The model `claude-x` does not exist"),
    (400, "model not found: claude-x"),
    (400, "Unknown model: claude-x"),
    (400, "Invalid model name passed in model=claude-x"),
    (400, "prompt is too long: 300000 tokens > 200000 maximum"),
    (400, "This model's maximum context length is 8192 tokens"),
    (400, "API key not valid. Please pass a valid API key."),
    (400, "Output blocked by content filtering policy"),
    (404, "404 page not found"),
    (404, ""),
    (404, "Not Found"),
    (404, "model: claude-x was not found"),
    (404, "The model 'claude-x' is not supported"),
    (404, "No endpoints found for claude-x."),
    (404, "No endpoints found matching your data policy"),
    (404, "Path /v1/messages not found"),
    (500, "Internal server error"),
    (500, ""),
    (500, "The model is overloaded, try again later"),
    (500, "CUDA out of memory"),
    (500, "upstream request timeout"),
    (500, "connect: connection refused"),
    (503, "no healthy upstream"),
    (502, "Bad Gateway: 400"),
    (401, "invalid request"),
    (403, "tools are not supported"),
    (429, "invalid request"),
)


@pytest.mark.parametrize(("status", "message"), UNEXPLAINED)
def test_a_refusal_that_may_be_about_the_form_is_answered(status: int, message: str) -> None:
    assert may_help(Refusal(status, message))


@pytest.mark.parametrize(("status", "message"), HOPELESS)
def test_a_refusal_of_something_else_is_not(status: int, message: str) -> None:
    assert not may_help(Refusal(status, message))


def test_every_step_has_a_request_that_it_changes() -> None:
    body = msgspec.json.decode(CAPTURED[0].read_bytes())["asked"]
    turns: list[Any] = [
        user(text("hi"), image()),
        assistant(server_call("srvtoolu_1"), server_result("srvtoolu_1"), call("t.1")),
        user(result("t.1", [text("found")]), {"type": "thinking", "thinking": "t"}),
    ]
    asked = newest({**body, "messages": [*turns, system("s"), *body["messages"]]})
    before = RequestDraft(Body.parse(msgspec.json.encode(asked)), BETAS, quirks=Quirks())
    _, changed = apply(before)
    assert changed == tuple(step.name for step in STEPS)


def test_the_names_of_steps_are_fit_to_be_stored() -> None:
    for step, letter in product(STEPS, ":;,"):
        assert letter not in step.name
