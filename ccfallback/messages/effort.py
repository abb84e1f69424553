"""How a request asks for thinking: a budget of tokens, or an effort.

An effort is stated for the whole request, and from a message on for what follows.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.edit import ANY, Path, map_items, raw_with_members, without
from ccfallback.messages.turns import objects_in, role_of, string

LEAST_BUDGET: Final = 1024
"""Tokens of thinking: the API takes no smaller budget, and wants it below `max_tokens`."""

EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
"""The levels of thinking that a request can ask for, lowest first."""

BUDGET_OF_EFFORT: Final[Mapping[str, int]] = {
    "low": 2000,
    "medium": 8000,
    "high": 16000,
    "xhigh": 32000,
    "max": 32000,
}
"""Tokens of thinking for an effort: a convention, the API defines none."""

_MAX_BUDGET_OF_EFFORT: Final = ((4096, "low"), (16384, "medium"), (31999, "high"))
"""The largest budget that counts as an effort; a larger one is `xhigh`."""

CONFIG: Final = "output_config"
EFFORT: Final[Path] = (CONFIG, "effort")
_EFFORT_OF_MESSAGE: Final[Path] = ("messages", ANY, *EFFORT)


def effort_for_budget(budget: int) -> str:
    """The effort that a budget of thinking amounts to."""
    return next((name for most, name in _MAX_BUDGET_OF_EFFORT if budget <= most), "xhigh")


def thinking_settings(body: Body) -> Mapping[str, Any]:
    """The member `thinking`; empty if there is none."""
    thinking = body.get("thinking")
    return thinking if isinstance(thinking, dict) else {}


def with_at_most(body: Body, tokens: int) -> Body:
    """The body with at most so many tokens for the answer, thinking included."""
    if body.max_tokens <= tokens:
        return body
    budget = thinking_settings(body).get("budget_tokens")
    if not isinstance(budget, int) or budget < tokens:
        return body.with_members(max_tokens=tokens)
    if tokens <= LEAST_BUDGET:
        return body.without("thinking").with_members(max_tokens=tokens)
    thinking = {**thinking_settings(body), "budget_tokens": tokens - 1}
    return body.with_members(max_tokens=tokens, thinking=thinking)


def requested_effort(body: Body) -> str:
    """The effort that the request states last, known or not; empty if it states none."""
    configs = [message.get(CONFIG) for message in objects_in(body.messages)]
    efforts = (string(config, "effort") for config in (*reversed(configs), body.get(CONFIG)))
    return next(filter(None, efforts), "")


def has_efforts_in_messages(body: Body) -> bool:
    """Whether a message has an `output_config` of its own."""
    return any(CONFIG in message for message in objects_in(body.messages))


def with_effort(body: Body, effort: str) -> Body:
    """The body with an effort for the whole request."""
    config = body.get(CONFIG)
    return body.with_members(
        output_config={**(config if isinstance(config, dict) else {}), "effort": effort}
    )


def with_efforts_at_the_top(body: Body) -> Body:
    """The body without `output_config` in messages: the last effort there is that of the whole."""

    def change(message: Any, raw: msgspec.Raw) -> msgspec.Raw | None:
        if not isinstance(message, dict) or CONFIG not in message:
            return raw
        # A system message that only set an effort has nothing left to say.
        is_empty = role_of(message) == "system" and not message.get("content")
        return None if is_empty else raw_with_members(raw, output_config=None)

    changed = map_items(body, "messages", change)
    if changed is body:
        return body
    configs = (message.get(CONFIG) for message in objects_in(body.messages))
    efforts = [effort for config in configs if (effort := string(config, "effort"))]
    return with_effort(changed, efforts[-1]) if efforts else changed


def without_effort(body: Body) -> Body:
    """The body without any effort."""
    for path in (EFFORT, _EFFORT_OF_MESSAGE):
        body = without(body, path)[0]
    return without_empty_config(body)


def without_empty_config(body: Body) -> Body:
    """The body without an empty `output_config`, and without messages that are only that."""
    if body.get(CONFIG) == {}:
        body = body.without(CONFIG)

    def change(message: Any, raw: msgspec.Raw) -> msgspec.Raw | None:
        is_empty = (
            role_of(message) == "system"
            and message.get(CONFIG) == {}
            and not message.get("content")
        )
        return None if is_empty else raw

    return map_items(body, "messages", change)


def with_effort_among(body: Body, known: tuple[str, ...]) -> Body:
    """The body with efforts among `known`, which is in order; others become the next lower one."""

    def lowered(config: Any) -> dict[str, Any] | None:
        effort = string(config, "effort")
        if effort not in EFFORTS or effort in known:
            return None
        rank = EFFORTS.index(effort)
        lower = (one for one in reversed(known) if EFFORTS.index(one) <= rank)
        return {**config, "effort": next(lower, known[0])}

    def change(message: Any, raw: msgspec.Raw) -> msgspec.Raw:
        config = lowered(message.get(CONFIG)) if isinstance(message, dict) else None
        return raw if config is None else raw_with_members(raw, output_config=config)

    top = lowered(body.get(CONFIG))
    if top is not None:
        body = body.with_members(output_config=top)
    return map_items(body, "messages", change)
