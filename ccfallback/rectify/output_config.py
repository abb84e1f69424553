"""Parts of `output_config` that a provider or a model does not know, at the top or in a message.

A format stays: without it the client would read an answer that it did not ask for.
"""

import re
from collections.abc import Callable
from typing import Final

from ccfallback.messages.body import Body
from ccfallback.messages.effort import EFFORTS
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import settled
from ccfallback.rectify.efforts import (
    CONFIG,
    EFFORT,
    with_effort_among,
    without_effort,
    without_empty_config,
)
from ccfallback.rectify.inline_system import has_efforts, with_efforts_on_top
from ccfallback.rectify.parts import ANY, Path, has, without
from ccfallback.rectify.paths import refused_paths, unknown_field
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.thinking_parts import thinking_of

_BUDGET: Final[Path] = (CONFIG, "task_budget")
_OF_MESSAGE: Final[Path] = ("messages", ANY, CONFIG)

_PER_TURN: Final = re.compile(r"per-turn effort")
_NO_EFFORT: Final = re.compile(
    r"(?:does not|doesnt|not) support(?: the)? (?:output_config\.)?(?:effort|reasoning_effort)\b"
    r"|\b(?:effort|reasoning_effort)(?: parameter)?"
    r" (?:(?:is|are) (?:not supported|unsupported)|requires a model that supports)"
    r"|(?:unsupported|unknown|unrecognized) (?:parameter|field|argument)s?:? reasoning_effort\b"
)
_NO_BUDGET: Final = re.compile(
    r"task_budget(?: parameter)? (?:is not supported|requires a model that supports)"
    r"|(?:does not|not) support(?: the)? task[_ ]budgets?\b"
)
_SOME_EFFORTS: Final = re.compile(
    r"\b(?:output_config\.effort|reasoning_effort)\b.{0,120}?"
    r"(?:input should be|supported values are|must be one of|expected one of|should be one of)"
    r":? (?P<known>(?:\w+(?:, (?:or |and )?| or | and )?){1,9})"
)


class _OutputConfig:
    name = "output_config"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take out what is refused, or lower an effort that is too high."""
        text = refusal.text
        known = _known_efforts(text)
        if known:
            return _lowered(draft, known)
        for applies, repair, changed, lesson in _REPAIRS:
            if applies(text):
                body = repair(draft.body)
                if body is draft.body:
                    return None
                return Repaired(settled(draft, body), changed, lesson)
        return None


def _lowered(draft: RequestDraft, known: tuple[str, ...]) -> Repaired | None:
    body = with_effort_among(draft.body, known)
    if body is draft.body:
        return None
    names = ", ".join(known)
    lesson = f"output_config.effort: Input should be {names}"
    return Repaired(draft.with_body(body), f"effort changed to one of {names}", lesson)


def _known_efforts(text: str) -> tuple[str, ...]:
    """The efforts that a refusal says are the only ones, in order."""
    match = _SOME_EFFORTS.search(text)
    words = re.split(r"\W+", match["known"]) if match else []
    return tuple(effort for effort in EFFORTS if effort in words)


def _without_reasoning_effort(body: Body) -> Body:
    """Where the effort goes by that name, a budget is translated into one, too."""
    body = without_effort(body)
    return body.without("thinking") if thinking_of(body).get("type") == "enabled" else body


def _without_budget(body: Body) -> Body:
    return without_empty_config(without(body, _BUDGET)[0])


def _without_config(body: Body) -> Body:
    return body if has(body, (CONFIG, "format")) else body.without(CONFIG)


def _efforts_on_top(body: Body) -> Body:
    return with_efforts_on_top(body) if has_efforts(body) else body


def _refuses(path: Path) -> Callable[[str], bool]:
    return lambda text: path in refused_paths(text)


_REPAIRS: Final[tuple[tuple[Callable[[str], bool], Callable[[Body], Body], str, str], ...]] = (
    (
        lambda text: (
            any(path[:3] == _OF_MESSAGE for path in refused_paths(text))
            or _PER_TURN.search(text) is not None
        ),
        _efforts_on_top,
        "output_config of messages moved to the top",
        unknown_field(_OF_MESSAGE),
    ),
    (
        lambda text: "reasoning_effort" in text and _NO_EFFORT.search(text) is not None,
        _without_reasoning_effort,
        "effort removed",
        "reasoning_effort is not supported",
    ),
    (
        lambda text: EFFORT in refused_paths(text) or _NO_EFFORT.search(text) is not None,
        without_effort,
        "effort removed",
        unknown_field(EFFORT),
    ),
    (
        lambda text: _BUDGET in refused_paths(text) or _NO_BUDGET.search(text) is not None,
        _without_budget,
        "task_budget removed",
        unknown_field(_BUDGET),
    ),
    (_refuses((CONFIG,)), _without_config, "output_config removed", unknown_field((CONFIG,))),
)
"""When, what then, what is said of it, and the lesson."""

OUTPUT_CONFIG: Final[Rectifier] = _OutputConfig()
