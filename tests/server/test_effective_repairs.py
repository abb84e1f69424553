"""A repair changes what the provider gets; the same request is never sent twice for a refusal.

Parts of a request do not survive the translation to the provider's format. A repair of such a part
would be no repair there, so the next one that applies is tried, and then the next provider.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec
import pytest
from msgspec.structs import replace

from ccfallback.config.model import Aws, Google, Provider
from ccfallback.config.quirks import Quirks
from ccfallback.events.records import RectifierApplied, RectifierAttempt, ServerError
from ccfallback.policy import learned
from ccfallback.policy.breaker import BreakerState
from ccfallback.rectify import PLAIN_FORM, RULES
from ccfallback.rectify.narrowing import Narrowing
from ccfallback.rectify.plain_form import NAMES as STEPS
from ccfallback.server.services import Services
from ccfallback.server.upstream import UpstreamRequest
from ccfallback.simulator import scripted_openai
from ccfallback.wire import FORMATS
from tests.rectify.drafts import (
    BETAS,
    CALL,
    FULL,
    HI,
    RESULT,
    THOUGHT,
    assistant,
    captured,
    members,
    text,
    user,
)
from tests.rectify.refusals import NEVER, REFUSALS, REFUSED
from tests.rectify.test_dialect import ROWS
from tests.rectify.test_properties import FAULTY
from tests.server.scripted_upstreams import ScriptedResponse
from tests.server.test_failover_driver import FALLBACK, JSON, Ran, run, whole

MOST: Final = 24
"""More attempts than any request makes."""

TEXTS: Final = tuple(
    dict.fromkeys(
        [
            *(words for texts in (*REFUSALS.values(), *REFUSED.values()) for words in texts),
            *(rule.lesson for rule in RULES if rule.lesson),
            *ROWS,
            *NEVER,
            "I did not understand this request",
        ]
    )
)
"""What providers say: of every rule at least one refusal."""

BODIES: Final[tuple[Mapping[str, Any], ...]] = (
    *(members(each) for each in FULL[:2]),
    FAULTY,
    *(members(each) for each in captured()[:1]),
)


def provider(format_: str, **more: Any) -> Provider:
    """A fallback of any format."""
    return replace(
        FALLBACK,
        format=format_,
        aws=Aws(region="us-east-1"),
        google=Google(project="p"),
        model_mapping={"*": "m"},
        **more,
    )


def refusal(message: str, status: int = 400) -> ScriptedResponse:
    error = {"type": "invalid_request_error", "message": message}
    body = msgspec.json.encode({"type": "error", "error": error})
    return ScriptedResponse([body], status, [JSON])


def refused(message: str, at: Provider, body: Mapping[str, Any], **more: Any) -> Ran:
    """A request that its provider refuses each time with the same words."""
    asked = {key: value for key, value in body.items() if key not in ("model", "stream")}
    headers = ((b"anthropic-beta", ",".join(BETAS).encode()),)
    ran = run(
        *(refusal(message) for _ in range(MOST)), providers=(at,), headers=headers, **asked, **more
    )
    assert not any(isinstance(record.data, ServerError) for record in ran.records)
    return ran


def repeated(requests: Iterable[UpstreamRequest]) -> int:
    """How many of the requests were sent before."""
    sent = [repr((each.url, list(each.headers), each.content)) for each in requests]
    assert 0 < len(sent) < MOST
    return len(sent) - len(set(sent))


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("number", range(len(BODIES)))
def test_no_refused_request_is_sent_again(number: int) -> None:
    for words in TEXTS:
        ran = refused(words, provider("openai"), BODIES[number])
        assert repeated(ran.upstreams.requests) == 0, words


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("format_", [each for each in FORMATS if each != "openai"])
def test_no_refused_request_is_sent_again_where_most_of_it_survives(format_: str) -> None:
    # Less is lost in these formats, so not each refusal meets each body.
    for number, words in enumerate(TEXTS):
        ran = refused(words, provider(format_), BODIES[number % len(BODIES)])
        assert repeated(ran.upstreams.requests) == 0, words


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(reasoning="effort", reasoning_content="calls", cache_control=True),
        Quirks(reasoning="thinking", reasoning_content="all", system_inline=True, top_k=True),
        Quirks(user_after_tool=False, sampling=False, tool_choice_required=False),
    ],
)
def test_no_refused_request_is_sent_again_whatever_the_quirks(quirks: Quirks) -> None:
    for words in TEXTS:
        ran = refused(words, provider("openai", quirks=quirks), BODIES[0])
        assert repeated(ran.upstreams.requests) == 0, words


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_the_plain_form_without_effect_is_not_tried_again(
    format_: str, step: str
) -> None:
    at = provider(format_)

    def knows(services: Services) -> None:
        now = services.breakers.clock()
        known = Narrowing(needed=tuple(each for each in STEPS if each != step), unsure=(step,))
        lesson = learned.learn(at, PLAIN_FORM, "m", known.text, now)

        def learn(state: BreakerState) -> BreakerState:
            return replace(state, learned=(lesson,))

        services.breakers.change(at.name, learn)

    for words in ("I did not understand this request", "context_management: unexpected field"):
        ran = refused(words, at, BODIES[0], prepare=knows)
        assert repeated(ran.upstreams.requests) == 0, words


CHAT: Final = provider("openai")
SERVED: Final = msgspec.json.encode(scripted_openai.completion([text("served")]))
TOOLS: Final = [{"name": "Bash", "input_schema": {"type": "object"}}]
FORCED: Final[Mapping[str, Any]] = {
    "messages": [HI],
    "tools": TOOLS,
    "tool_choice": {"type": "any"},
}
LOOP: Final = [HI, assistant(THOUGHT, CALL), user(RESULT)]


def test_a_repair_without_effect_leads_to_the_next_provider_at_once() -> None:
    other = replace(CHAT, name="three")
    words = "context_management: Extra inputs are not permitted"
    ran = run(
        *(refusal(words), whole(SERVED)),
        providers=(CHAT, other),
        messages=[HI],
        context_management={"edits": []},
    )
    assert ran.chosen is not None
    assert ran.chosen.provider is other
    assert [result.provider.name for result in ran.results] == ["two", "three"]
    assert not any(isinstance(record.data, RectifierAttempt) for record in ran.records)


def bodies_of(ran: Ran) -> list[Any]:
    """What was sent."""
    return [msgspec.json.decode(cast(bytes, request.content)) for request in ran.upstreams.requests]


def repaired_by(name: str, words: str, quirks: Quirks | None = None, **asked: Any) -> list[Any]:
    """The body of a request that is refused once, and the repaired body."""
    at = CHAT if quirks is None else replace(CHAT, quirks=quirks)
    ran = run(refusal(words), whole(SERVED), providers=(at,), **asked)
    assert ran.chosen is not None, ran.results
    applied = ran.event(RectifierApplied)
    assert (applied.rectifier, applied.learned) == (name, True)
    return bodies_of(ran)


DEEPSEEK: Final = "The `reasoning_content` in the thinking mode must be passed back to the API."
MOONSHOT: Final = (
    "thinking is enabled but reasoning_content is missing in assistant tool call message at index 1"
)


@pytest.mark.parametrize("words", [DEEPSEEK, MOONSHOT])
def test_a_provider_that_wants_thinking_back_gets_it(words: str) -> None:
    messages = [HI, assistant(text("Hello.")), *LOOP]
    first, second = repaired_by("dialect_thoughts", words, messages=messages, tools=TOOLS)
    said = [each for each in first["messages"] if each["role"] == "assistant"]
    assert not any("reasoning_content" in each for each in said)
    said = [each for each in second["messages"] if each["role"] == "assistant"]
    assert [each["reasoning_content"] for each in said] == ["", "Let me."]


def test_a_provider_that_wants_no_empty_thinking_gets_a_word() -> None:
    ran = run(
        *(refusal(DEEPSEEK), refusal(DEEPSEEK), whole(SERVED)),
        providers=(CHAT,),
        messages=[HI, assistant(CALL), user(RESULT)],
        tools=TOOLS,
    )
    assert ran.chosen is not None
    sent = [body["messages"][1].get("reasoning_content") for body in bodies_of(ran)]
    assert sent == [None, "", "(omitted)"]


@pytest.mark.parametrize(
    "words",
    [
        "tool_choice 'required' is incompatible with thinking enabled",
        "Thinking may not be enabled when tool_choice forces tool use.",
    ],
)
@pytest.mark.parametrize("thinking", [{"type": "adaptive"}, {"type": "disabled"}])
def test_a_forced_tool_is_asked_for_in_words_if_thinking_cannot_be_switched_off(
    words: str, thinking: Mapping[str, Any]
) -> None:
    asked = {**FORCED, "thinking": thinking}
    first, second = repaired_by("forced_tool", words, **asked)
    assert (first["tool_choice"], second["tool_choice"]) == ("required", "auto")
    assert "Now call one of the tools." in str(second["messages"][-1]["content"])


def test_thinking_is_given_up_for_a_forced_tool_where_that_is_possible() -> None:
    words = "tool_choice 'required' is incompatible with thinking enabled"
    asked = {**FORCED, "thinking": {"type": "adaptive"}}
    first, second = repaired_by("forced_tool", words, Quirks(reasoning="thinking"), **asked)
    assert first["thinking"] == {"type": "enabled"}
    assert second["thinking"] == {"type": "disabled"}
    assert second["tool_choice"] == "required"


def test_what_the_user_says_after_a_result_moves_into_it() -> None:
    messages = [*LOOP[:2], user(RESULT, text("Go on.")), user(text("Now."))]
    words = "Conversation roles must alternate user/assistant/user/assistant/..."
    first, second = repaired_by("dialect_order", words, messages=messages, tools=TOOLS)
    roles = [[message["role"] for message in body["messages"]] for body in (first, second)]
    assert roles == [["user", "assistant", "tool", "user"], ["user", "assistant", "tool"]]
    assert second["messages"][-1]["content"] == "ok\n\nGo on.\n\nNow."


def test_a_refused_role_of_system_messages_is_given_up_step_by_step() -> None:
    words = "messages.1.role: Input should be 'user' or 'assistant'"
    ran = run(
        *(refusal(words), refusal(words), whole(SERVED)),
        providers=(replace(CHAT, quirks=Quirks(system_inline=True)),),
        system="Be good.",
        messages=[HI, assistant(text("Hello.")), HI, {"role": "system", "content": "Note."}],
    )
    assert ran.chosen is not None
    roles = [[message["role"] for message in body["messages"]] for body in bodies_of(ran)]
    assert roles == [
        ["system", "user", "assistant", "user", "system"],
        ["system", "user", "assistant", "user"],
        ["user", "assistant", "user"],
    ]


def test_messages_in_the_middle_are_folded_before_results_lose_anything() -> None:
    messages = [HI, assistant(text("Hello.")), HI, {"role": "system", "content": "Note."}]
    words = "Conversation roles must alternate user/assistant/user/assistant/..."
    quirks = Quirks(system_inline=True)
    first, second = repaired_by("alternation", words, quirks, messages=messages)
    assert first["messages"][-1]["role"] == "system"
    assert second["messages"][-1]["role"] == "user"
