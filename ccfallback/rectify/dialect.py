"""How a provider of another format wants to be spoken to, where it says so in refusing.

Its own words are not the client's, so nothing of the request is to be repaired: a switch of the
provider is set otherwise, as its user could have done. See `core.quirks`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ccfallback.config.quirks import Quirks
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.paths import refused_paths
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

Switches = Mapping[str, Any]
Asks = Callable[[str, Quirks], tuple[Switches, str] | None]
"""What a refusal asks for: switches by name, and the lesson. `None` where it is about others."""

_REFUSED: Final = r"(?:not (?:supported|allowed|permitted|available)|un(?:supported|available))"

_TO_NEW_LIMIT: Final = re.compile(
    r"unsupported parameters?:? max_tokens\b|\buse max_completion_tokens instead"
)
_TO_OLD_LIMIT: Final = re.compile(
    rf"\bmax_completion_tokens (?:is |are )?{_REFUSED}|\buse max_tokens instead"
)
_USAGE: Final = re.compile(rf"\bstream_options\b.{{0,60}}{_REFUSED}|{_REFUSED}.{{0,30}}stream_opt")
_SIGNATURE: Final = re.compile(r"\bmissing an? thought_signature")
_FORMATS: Final = (
    ("json_object", re.compile(rf"\bjson_object\b.{{0,60}}{_REFUSED}"), ("prompt",)),
    (
        "json_schema",
        re.compile(
            rf"\bresponse_format\b.{{0,20}}\btype is {_REFUSED}|\bjson_schema\b.{{0,60}}{_REFUSED}"
            r"|\bresponse_format\.(?:json_schema\.)?strict\b"
        ),
        ("json_object", "prompt"),
    ),
    (
        "parameter",
        re.compile(rf"\bresponse_format (?:parameter )?(?:is |are )?{_REFUSED}"),
        ("prompt",),
    ),
)
"""What is refused, in which words, and what may be said instead, the best first."""
_THINKING_WITH_TOOLS: Final = re.compile(
    rf"\btools\b.{{0,40}}\breasoning_effort\b.{{0,60}}{_REFUSED}"
    rf"|\breasoning_effort\b.{{0,80}}\btools\b.{{0,40}}{_REFUSED}"
)
_DEVELOPER: Final = re.compile(
    rf"\bdeveloper\b.{{0,20}}{_REFUSED}|(?:not support|unexpected role|invalid role:?) developer\b"
)
_SYSTEM: Final = re.compile(
    rf"\bsystem role (?:is )?{_REFUSED}|\brole:? system (?:is )?{_REFUSED}"
    r"|(?:not support|unexpected role|invalid role:?) system\b(?! after)"
    r"|only user(?:,| and)(?: and)? assistant roles are supported"
)
_FIRST: Final = re.compile(r"system messages? must be (?:at|in) the (?:beginning|start)")
_NULL: Final = re.compile(
    r"\bcontent\b.{0,60}(?:got null|invalid type: null|(?:not|n.t) be null|none is not an allowed)"
)
_STOPS: Final = re.compile(
    r"\bstop\b.{0,80}(?:maximum length|at most|up to|no more than) (?P<most>\d{1,2})\b"
)

_REASONING: Final = frozenset({"reasoning", "enable_thinking", "thinking_budget", "thinking"})
"""Members by which some are asked to think."""


@dataclass(slots=True)
class _Dialect:
    name: str
    rows: tuple[Asks, ...]
    """The first that a refusal asks for is what is done."""

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Speak to the provider as it wants to be spoken to."""
        if draft.quirks is None:
            return None
        text, quirks = refusal.text, draft.quirks
        asked = next((found for asks in self.rows if (found := asks(text, quirks))), None)
        if asked is None:
            return None
        switches, lesson = asked
        anew = {name: to for name, to in switches.items() if getattr(quirks, name) != to}
        if not anew:
            return None
        told = ", ".join(f"{name} = {_said(to)}" for name, to in anew.items())
        made = replace(draft, quirks=replace(quirks, **anew))
        return Repaired(made, f"spoken to with {told}", lesson)


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(value)}}}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _when(form: re.Pattern[str], lesson: str, **switches: Any) -> Asks:
    """These switches for a refusal of that form."""
    return lambda text, _: (switches, lesson) if form.search(text) else None


def _newer_limit(text: str, _quirks: Quirks) -> tuple[Switches, str] | None:
    if not (_TO_NEW_LIMIT.search(text) or ("max_tokens",) in refused_paths(text)):
        return None
    return {"max_tokens_field": "max_completion_tokens"}, "Unsupported parameter: max_tokens"


def _older_limit(text: str, _quirks: Quirks) -> tuple[Switches, str] | None:
    if not (_TO_OLD_LIMIT.search(text) or ("max_completion_tokens",) in refused_paths(text)):
        return None
    return {"max_tokens_field": "max_tokens"}, "Unsupported parameter: max_completion_tokens"


def _no_usage(text: str, _quirks: Quirks) -> tuple[Switches, str] | None:
    refused = any(path[0] == "stream_options" for path in refused_paths(text))
    if not (refused or _USAGE.search(text)):
        return None
    return {"stream_usage": False}, "Unsupported parameter: stream_options"


def _no_thinking_with_tools(text: str, quirks: Quirks) -> tuple[Switches, str] | None:
    """OpenAI's newest models think by themselves, and then call no functions."""
    if not _THINKING_WITH_TOOLS.search(text):
        return None
    said = {"extra_body": {**quirks.extra_body, "reasoning_effort": "none"}}
    return said, "tools with reasoning_effort are not supported"


def _no_reasoning(text: str, quirks: Quirks) -> tuple[Switches, str] | None:
    """Not asked in the user's way, if he chose one; an effort has a repair of its own."""
    named = next((path[0] for path in refused_paths(text) if path[0] in _REASONING), None)
    if named is None or quirks.reasoning == "effort":
        return None
    return {"reasoning": "none"}, f"Unsupported parameter: {named}"


def _less_extra(text: str, quirks: Quirks) -> tuple[Switches, str] | None:
    """Without members of the user's own, save what they are set to here."""
    named = [path[0] for path in refused_paths(text) if path[0] in quirks.extra_body]
    if not named:
        return None
    left = {name: value for name, value in quirks.extra_body.items() if name not in named}
    return {"extra_body": left}, "; ".join(f"Unsupported parameter: {name}" for name in named)


def _lesser_format(text: str, quirks: Quirks) -> tuple[Switches, str] | None:
    for name, form, instead in _FORMATS:
        if form.search(text):
            lesson = f"response_format {name} is not supported"
            now = quirks.response_format
            return {"response_format": now if now in instead else instead[0]}, lesson
    return None


def _fewer_stops(text: str, quirks: Quirks) -> tuple[Switches, str] | None:
    found = _STOPS.search(text)
    if found is None:
        return None
    most = min(int(found["most"]), quirks.stop_limit)
    return {"stop_limit": most}, f"stop: at most {found['most']}"


DIALECTS: Final[tuple[Rectifier, ...]] = (
    _Dialect("dialect_limit", (_newer_limit, _older_limit)),
    _Dialect("dialect_usage", (_no_usage,)),
    _Dialect(
        "dialect_signature",
        (
            _when(
                _SIGNATURE, "Function call is missing a thought_signature", thought_signature=True
            ),
        ),
    ),
    _Dialect("dialect_thinking", (_no_thinking_with_tools, _no_reasoning)),
    _Dialect("dialect_extra_body", (_less_extra,)),
    _Dialect("dialect_format", (_lesser_format,)),
    _Dialect(
        "dialect_roles",
        (
            _when(_DEVELOPER, "role developer is not supported", system_role="system"),
            _when(_SYSTEM, "role system is not supported", system_role="user", system_inline=False),
            _when(_FIRST, "System message must be at the beginning", system_inline=False),
        ),
    ),
    _Dialect("dialect_null", (_when(_NULL, "content may not be null", null_content=False),)),
    _Dialect("dialect_stops", (_fewer_stops,)),
)
"""One for each thing that may be said otherwise: each is asked once for a request."""
