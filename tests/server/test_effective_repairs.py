"""A repair changes what the provider gets; the same request is never sent twice for a refusal.

Parts of a request do not survive the translation to the provider's format. A repair of such a part
would be no repair there, so the next one that applies is tried, and then the next provider.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace

from ccfallback.config.model import Aws, Google, Provider
from ccfallback.config.quirks import Quirks
from ccfallback.events.records import RectifierAttempt
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
    FULL,
    HI,
    captured,
    members,
    text,
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
    return run(
        *(refusal(message) for _ in range(MOST)), providers=(at,), headers=headers, **asked, **more
    )


def repeated(requests: Iterable[UpstreamRequest]) -> int:
    """How many of the requests were sent before."""
    sent = [repr((each.url, list(each.headers), each.content)) for each in requests]
    assert 0 < len(sent) < MOST
    return len(sent) - len(set(sent))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("number", range(len(BODIES)))
def test_no_refused_request_is_sent_again(format_: str, number: int) -> None:
    for words in TEXTS:
        ran = refused(words, provider(format_), BODIES[number])
        assert repeated(ran.upstreams.requests) == 0, words


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
