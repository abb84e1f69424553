"""What a cloud refuses is taken out before a request is sent there."""

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.model_names import find_name
from ccfallback.messages.system import without_billing
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify import BY_NAME, attempt, platforms
from ccfallback.rectify.rule import Refusal
from ccfallback.simulator.strict_clouds import faults
from tests.rectify.drafts import (
    BETAS,
    CALL,
    HI,
    THOUGHT,
    assistant,
    captured,
    conversations,
    draft,
    members,
    text,
    user,
)

CLOUDS: Final = ("bedrock", "mantle", "vertex")
MODELS: Final = (
    *("us.anthropic.claude-opus-5-5", "eu.anthropic.claude-opus-4-6-v1", "claude-opus-4-8"),
    *(
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "claude-sonnet-5",
        "claude-sonnet-4@20250514",
    ),
    *("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-fable-5-1", "claude-haiku-5-5"),
)

FIRST_PARTY: Final = draft(
    user(
        text("hi", cache_control={"type": "ephemeral", "ttl": "1h", "scope": "global"}),
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    ),
    {
        "role": "system",
        "content": [
            text("Note."),
            {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "Later"}},
        ],
        "output_config": {"effort": "max"},
        "clear_at": "next_user_message",
    },
    assistant(THOUGHT, text("Well."), CALL),
    user({"type": "tool_result", "tool_use_id": "t1", "content": "ok"}, text("on")),
    betas=(
        *BETAS,
        *(
            "extended-cache-ttl-2025-04-11",
            "prompt-caching-scope-2026-01-05",
            "fast-mode-2026-02-01",
        ),
        *("mid-conversation-system-clear-at-2026-08-21", "fine-grained-tool-streaming-2025-05-14"),
        *("web-search-2025-03-05", "task-budgets-2026-03-13", "a-flag-of-next-year-2027-01-01"),
    ),
    system=[
        text("x-anthropic-billing-header: cc_version=2.1.330.540; cc_entrypoint=cli;"),
        text("Be brief.", cache_control={"type": "ephemeral", "scope": "global"}),
    ],
    tools=[
        {
            "name": "Bash",
            "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}},
            "eager_input_streaming": True,
            "input_examples": [{"command": "ls"}],
            "allowed_callers": ["direct"],
        },
        {"name": "Later", "input_schema": {"type": "object"}, "defer_loading": True},
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "web_fetch_20250910", "name": "web_fetch"},
    ],
    context_management={
        "edits": [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]
    },
    output_config={"effort": "high", "task_budget": {"type": "tokens", "total": 9000}},
    output_format={"type": "json_schema", "schema": {"type": "object"}},
    thinking={"type": "adaptive"},
    metadata={"user_id": "user"},
    service_tier="auto",
    speed="fast",
    tags=["a"],
    stream=True,
)
"""A request with everything that a first-party client may send."""


def sent(made: RequestDraft, platform: str) -> dict[str, Any]:
    """The body as the platform's format puts it on the wire."""
    body = members(made)
    if platform != "mantle":
        body.pop("model")
    if platform == "bedrock":
        body.pop("stream", None)
        body["anthropic_beta"] = list(made.betas)
    return body


def found(before: RequestDraft, platform: str, model: str) -> list[str]:
    made = platforms.apply(before, platform, model)
    return list(faults(platform, model, sent(made, platform), made.betas))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("platform", CLOUDS)
def test_what_the_client_sends_is_accepted_at_once(platform: str, model: str) -> None:
    for before in captured():
        assert (
            found(RequestDraft(without_billing(before.body), before.betas), platform, model) == []
        )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("platform", CLOUDS)
def test_everything_that_a_client_may_send_is_accepted_at_once(platform: str, model: str) -> None:
    assert list(faults(platform, model, sent(FIRST_PARTY, platform), FIRST_PARTY.betas))
    assert found(FIRST_PARTY, platform, model) == []


@given(body=conversations(), betas=st.lists(st.sampled_from(FIRST_PARTY.betas), unique=True))
def test_any_conversation_is_taken(body: dict[str, Any], betas: list[str]) -> None:
    before = RequestDraft(Body.parse(msgspec.json.encode(body)), tuple(betas))
    made = platforms.apply(before, "bedrock", "us.anthropic.claude-opus-5-5")
    assert not [
        fault
        for fault in faults("bedrock", "claude-opus-5-5", sent(made, "bedrock"), made.betas)
        # A field without its flag is the client's own fault.
        if not fault.endswith("Extra inputs are not permitted")
    ]
    again = platforms.apply(made, "bedrock", "us.anthropic.claude-opus-5-5")
    assert (again.body.raw, again.betas) == (made.body.raw, made.betas)


def test_what_a_door_takes_stays() -> None:
    made = platforms.apply(FIRST_PARTY, "bedrock", "us.anthropic.claude-opus-5-5")
    body = members(made)
    assert body["context_management"] == {"edits": [{"type": "clear_tool_uses_20250919"}]}
    assert body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert body["messages"][1]["content"][1]["type"] == "tool_addition"
    assert body["tools"][1]["defer_loading"] is True
    assert body["output_config"]["effort"] == "max"
    assert body["output_config"]["format"] == {"type": "json_schema", "schema": {"type": "object"}}
    assert body["metadata"] == {"user_id": "user"}
    assert made.betas == (
        "context-management-2025-06-27",
        "mid-conversation-tool-changes-2026-07-01",
        "tool-search-tool-2025-10-19",
        "effort-2025-11-24",
    )


def test_a_flag_and_its_field_go_together() -> None:
    clearing = draft(
        betas=("context-management-2025-06-27", "advanced-tool-use-2025-11-20"),
        context_management={"edits": [{"type": "clear_thinking_20251015"}]},
    )
    made = platforms.apply(clearing, "bedrock", "claude-opus-5-5")
    assert made.betas == ()
    assert "context_management" not in made.body
    compacting = draft(
        betas=("compact-2026-09-04", "context-management-2025-06-27"),
        compaction={"type": "auto"},
        context_management={"edits": [{"type": "clear_tool_uses_20250919"}]},
    )
    made = platforms.apply(compacting, "bedrock", "claude-opus-5-5")
    assert "compaction" in made.body
    assert "context_management" not in made.body
    assert made.betas == ("compact-2026-09-04",)


def test_examples_of_tools_go_with_their_own_flag() -> None:
    tool = {"name": "a", "input_schema": {"type": "object"}, "input_examples": [{}]}
    before = draft(betas=("advanced-tool-use-2025-11-20",), tools=[tool])
    for platform, betas in (("vertex", ("tool-examples-2025-10-29",)), ("bedrock", ())):
        made = platforms.apply(before, platform, "claude-opus-5-5")
        assert made.betas == betas
        assert ("input_examples" in members(made)["tools"][0]) is bool(betas)


def test_the_system_role_stays_for_models_that_know_it() -> None:
    before = draft(HI, {"role": "system", "content": "Note."}, HI)
    for model, folded in (
        ("us.anthropic.claude-opus-4-8", False),
        ("us.anthropic.claude-fable-5", False),
        ("us.anthropic.claude-sonnet-5", True),
        ("us.anthropic.claude-opus-4-6-v1", True),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", False),
    ):
        made = platforms.apply(before, "bedrock", model)
        roles = [message["role"] for message in members(made)["messages"]]
        assert ("system" not in roles) is folded, model


def test_foundry_takes_nearly_the_first_partys_flags() -> None:
    made = platforms.apply(FIRST_PARTY, "foundry", "claude-opus-5-5")
    assert set(BETAS) <= set(made.betas)
    assert not platforms.takes_beta("foundry", "advisor-tool-2026-03-01")
    assert not any("scope" in fault for fault in faults("mantle", "m", members(made)))


def test_no_door_changes_nothing() -> None:
    for platform in ("", "first-party"):
        assert platforms.apply(FIRST_PARTY, platform, "claude-opus-5-5") is FIRST_PARTY


@pytest.mark.parametrize("platform", sorted(platforms.PLATFORMS))
def test_a_plain_request_is_left_alone(platform: str) -> None:
    before = draft(HI, system="Be brief.", stream=True)
    assert platforms.apply(before, platform, "claude-opus-5-5") is before


@pytest.mark.parametrize(
    "row", platforms.REFUSED, ids=lambda row: f"{row.rectifier}: {row.text[:50]}"
)
def test_every_row_leads_to_a_repair(row: platforms.Refused) -> None:
    assert row.rectifier in BY_NAME
    assert row.platforms <= platforms.PLATFORMS
    special = {
        "context_management cannot be used with compaction": draft(
            compaction={}, context_management={}
        ),
        "Input tag 'clear_thinking' found using 'type' does not match any of the expected tags": (
            draft(context_management={"edits": [{"type": "clear_thinking_20251015"}]})
        ),
    }
    before = special.get(row.text, FIRST_PARTY)
    made = attempt(row.rectifier, before, Refusal(400, row.text))
    assert made is not None
    assert attempt(row.rectifier, made.draft, Refusal(400, row.text)) is None


def test_server_tools_stay_where_there_are_no_others() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    before = draft(tools=[search], tool_choice={"type": "tool", "name": "web_search"})
    assert platforms.apply(before, "bedrock", "claude-opus-5-5") is before
    both = draft(
        tools=[search, {"name": "a", "input_schema": {"type": "object"}}],
        tool_choice={"type": "tool", "name": "web_search"},
    )
    made = members(platforms.apply(both, "bedrock", "claude-opus-5-5"))
    assert [tool["name"] for tool in made["tools"]] == ["a"]
    assert "tool_choice" not in made
    assert platforms.apply(both, "vertex", "claude-opus-5-5").body.raw == both.body.raw


@pytest.mark.parametrize(
    ("model", "family", "version"),
    [
        ("claude-opus-5-5", "opus", (5, 5)),
        ("claude-opus-5-5[1m]", "opus", (5, 5)),
        ("anthropic.claude-sonnet-5", "sonnet", (5, 0)),
        ("eu.anthropic.claude-opus-4-6-v1", "opus", (4, 6)),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "haiku", (4, 5)),
        ("claude-haiku-4-5@20251001", "haiku", (4, 5)),
        ("claude-sonnet-4-20250514", "sonnet", (4, 0)),
        ("us.anthropic.claude-3-5-haiku-20241022-v1:0", "haiku", (3, 5)),
        ("claude-3-haiku-20240307", "haiku", (3, 0)),
        (
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-8",
            "opus",
            (4, 8),
        ),
    ],
)
def test_an_id_names_family_and_version(model: str, family: str, version: tuple[int, int]) -> None:
    name = find_name(model)
    assert name is not None
    assert (name.family, name.version) == (family, version)


@pytest.mark.parametrize("model", ["", "gpt-5.6", "claude", "notclaude-opus-5", "claude-next"])
def test_other_ids_name_none(model: str) -> None:
    assert find_name(model) is None


SEARCHED: Final = (
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [{"type": "web_search_result", "title": "T", "url": "https://a.test/"}],
    },
    text(
        "Found.",
        citations=[{"type": "web_search_result_location", "url": "https://a.test/"}],
    ),
)
ADVISED: Final = (
    {"type": "server_tool_use", "id": "srvtoolu_2", "name": "advisor", "input": {}},
    {
        "type": "advisor_tool_result",
        "tool_use_id": "srvtoolu_2",
        "content": {"type": "advisor_result", "text": "Test it first."},
    },
)
RAN: Final = (
    {"type": "server_tool_use", "id": "srvtoolu_3", "name": "bash_code_execution", "input": {}},
    {
        "type": "bash_code_execution_tool_result",
        "tool_use_id": "srvtoolu_3",
        "content": {"type": "bash_code_execution_result", "stdout": "42", "return_code": 0},
    },
    {"type": "mcp_tool_use", "id": "m", "name": "look", "server_name": "s", "input": {"a": 1}},
    {"type": "mcp_tool_result", "tool_use_id": "m", "content": "seen"},
)


@pytest.mark.parametrize("platform", CLOUDS)
@pytest.mark.parametrize("used", [SEARCHED, ADVISED, RAN, (*SEARCHED, *ADVISED, *RAN)])
def test_what_server_tools_did_before_is_said_in_words(platform: str, used: Any) -> None:
    before = draft(HI, assistant(*used), user(text("on")))
    before_faults = list(faults(platform, "claude-opus-5-5", sent(before, platform)))
    assert before_faults or (platform == "vertex" and used is SEARCHED)
    assert found(before, platform, "claude-opus-5-5") == []
    made = str(members(platforms.apply(before, platform, "claude-opus-5-5"))["messages"])
    for block, words in ((ADVISED[1], "Test it first."), (RAN[1], "42"), (SEARCHED[1], "a.test")):
        assert (words in made) is (block in used)


def test_vertex_keeps_its_own_searches() -> None:
    before = draft(HI, assistant(*SEARCHED, *ADVISED), user(text("on")))
    made = members(platforms.apply(before, "vertex", "claude-opus-5-5"))
    assert made["messages"][1]["content"][:3] == list(SEARCHED)
    alone = draft(HI, assistant(*SEARCHED), user(text("on")))
    assert platforms.apply(alone, "vertex", "claude-opus-5-5") is alone


def test_a_request_for_server_tools_alone_goes_to_platforms_that_have_one_of_them() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    fetch = {"type": "web_fetch_20250910", "name": "web_fetch"}
    own = {"name": "Bash", "input_schema": {"type": "object"}}

    def refusing(*tools: Any, **more: Any) -> set[str]:
        body = draft(HI, tools=list(tools), **more).body
        names = (*platforms.PLATFORMS, "claude-platform-aws", "")
        return {name for name in names if platforms.runs_no_tool(name, body)}

    assert (
        refusing(search) == refusing(search, tool_choice={"type": "any"}) == {"bedrock", "mantle"}
    )
    assert refusing(fetch) == {"bedrock", "mantle", "vertex"}
    assert refusing(search, fetch) == {"bedrock", "mantle"}
    assert refusing(search, own) == refusing() == set()
    assert refusing(search, tool_choice={"type": "none"}) == set()
