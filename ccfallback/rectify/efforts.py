"""How hard the model shall think: said at the top of a request, and in messages from there on."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.effort import EFFORTS
from ccfallback.rectify.parts import (
    ANY,
    Path,
    messages_of,
    role_of,
    with_list,
    with_members,
    without,
)

CONFIG: Final = "output_config"
EFFORT: Final[Path] = (CONFIG, "effort")

_EFFORT_OF_MESSAGE: Final[Path] = ("messages", ANY, *EFFORT)


def effort_of(body: Body) -> str:
    """The effort that counts: the last that was said; empty where there is none."""
    configs = [message.get(CONFIG) for message in messages_of(body) if isinstance(message, dict)]
    for config in (*reversed(configs), body.get(CONFIG)):
        effort = config.get("effort") if isinstance(config, dict) else None
        if isinstance(effort, str):
            return effort
    return ""


def without_effort(body: Body) -> Body:
    """A body that says nothing of effort."""
    for path in (EFFORT, _EFFORT_OF_MESSAGE):
        body = without(body, path)[0]
    return without_empty_config(body)


def without_empty_config(body: Body) -> Body:
    """A body without a config that says nothing, and without messages that are only that."""
    if body.get(CONFIG) == {}:
        body = body.without(CONFIG)
    return with_list(body, "messages", lambda message, raw: None if _is_empty(message) else raw)


def with_effort_among(body: Body, known: tuple[str, ...]) -> Body:
    """A body with efforts of these alone, which are in order: the next lower one for any other."""

    def fitting(config: Any) -> dict[str, Any] | None:
        effort = config.get("effort") if isinstance(config, dict) else None
        if not isinstance(effort, str) or effort not in EFFORTS or effort in known:
            return None
        rank = EFFORTS.index(effort)
        lower = (one for one in reversed(known) if EFFORTS.index(one) <= rank)
        return {**config, "effort": next(lower, known[0])}

    top = fitting(body.get(CONFIG))
    if top is not None:
        body = body.with_members(output_config=top)
    return with_list(body, "messages", _changing(fitting))


def _changing(
    fitting: Callable[[Any], dict[str, Any] | None],
) -> Callable[[Any, msgspec.Raw], msgspec.Raw]:
    def change(message: Any, raw: msgspec.Raw) -> msgspec.Raw:
        config = fitting(message.get(CONFIG)) if isinstance(message, dict) else None
        return raw if config is None else with_members(raw, output_config=config)

    return change


def _is_empty(message: Any) -> bool:
    """Whether it is a system message that only set an effort."""
    return role_of(message) == "system" and message.get(CONFIG) == {} and not message.get("content")
