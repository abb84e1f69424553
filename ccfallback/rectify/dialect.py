"""How a provider of another format wants requests to be translated, as its refusals say.

Such a refusal is about the translation, so nothing of the client's request is repaired: a quirk
of the provider is set otherwise, as its user could have set it. See `config.quirks`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.rule import Refusal, Repaired, Rule, names_field, names_member, says
from ccfallback.rectify.thinking import THOUGHTS_WANTED, wants_thoughts
from ccfallback.rectify.turns import ALTERNATION_WANTED, refuses_system, wants_alternation

T = TypeVar("T")

_REFUSED: Final = r"(?:not (?:supported|allowed|permitted|available)|un(?:supported|available))"

_FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "json_object": ("prompt",),
    "json_schema": ("json_object", "prompt"),
    "parameter": ("prompt",),
}
"""What of `response_format` is refused, and what may replace it, the best first."""

_INVALID_SCHEMA: Final = r"\binvalid schema for response_format\b"
_NOT_STRICT: Final[Mapping[str, Any]] = {"strict_schema": False}

_REASONING: Final = frozenset({"reasoning", "enable_thinking", "thinking_budget", "thinking"})
"""Members that ask some providers for thinking."""


def _is_translated(draft: RequestDraft) -> bool:
    return draft.quirks is not None


def _with_quirks(
    draft: RequestDraft, lesson: str | None, quirks: Mapping[str, Any]
) -> Repaired | None:
    """The draft with these quirks set; `None` if they are set already."""
    assert draft.quirks is not None
    new = {name: to for name, to in quirks.items() if getattr(draft.quirks, name) != to}
    if not new:
        return None
    words = ", ".join(f"{name} = {_show(to)}" for name, to in new.items())
    made = replace(draft, quirks=replace(draft.quirks, **new))
    return Repaired(made, f"spoken to with {words}", lesson)


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(value)}}}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sets(name: str, matches: Callable[[Refusal], T | None], lesson: str, **quirks: Any) -> Rule[T]:
    """A rule that sets these quirks."""
    return Rule(
        name, matches, lambda draft, _: _with_quirks(draft, lesson, quirks), when=_is_translated
    )


def _rule(
    name: str,
    matches: Callable[[Refusal], T | None],
    change: Callable[[RequestDraft, T], Repaired | None],
) -> Rule[T]:
    return Rule(name, matches, change, when=_is_translated)


def _no_thinking_with_tools(draft: RequestDraft, _found: object) -> Repaired | None:
    """OpenAI's newest models think by default, and then call no functions."""
    assert draft.quirks is not None
    extra_body = {**draft.quirks.extra_body, "reasoning_effort": "none"}
    lesson = "tools with reasoning_effort are not supported"
    return _with_quirks(draft, lesson, {"extra_body": extra_body})


def _thinking_members(refusal: Refusal) -> list[str]:
    return [path[0] for path in refusal.paths if path[0] in _REASONING]


def _no_reasoning(draft: RequestDraft, members: list[str]) -> Repaired | None:
    """Do not ask for thinking in the way that the user chose; an effort has a repair of its own."""
    if draft.quirks is None or draft.quirks.reasoning == "effort":
        return None
    return _with_quirks(draft, f"Unsupported parameter: {members[0]}", {"reasoning": "none"})


def _less_extra(draft: RequestDraft, members: list[str]) -> Repaired | None:
    """Remove members that the user added."""
    extra = draft.quirks.extra_body if draft.quirks is not None else {}
    named = [name for name in members if name in extra]
    left = {name: value for name, value in extra.items() if name not in named}
    lesson = "; ".join(f"Unsupported parameter: {name}" for name in named)
    return _with_quirks(draft, lesson, {"extra_body": left})


def _lesser_format(name: str, *forms: str) -> Rule[Any]:
    def change(draft: RequestDraft, _found: object) -> Repaired | None:
        assert draft.quirks is not None
        now, instead = draft.quirks.response_format, _FORMATS[name]
        lesson = f"response_format {name} is not supported"
        to = now if now in instead else instead[0]
        return _with_quirks(draft, lesson, {"response_format": to})

    return _rule("dialect_format", says(*forms), change)


_SYSTEM_FIRST: Final = "System message must be at the beginning"
_NO_SYSTEM: Final = "role system is not supported"
_AS_USER: Final[Mapping[str, Any]] = {"system_role": "user", "system_inline": False}


def _fewer_system_messages(draft: RequestDraft, _found: object) -> Repaired | None:
    """Let the user say what system messages say."""
    assert draft.quirks is not None
    if draft.quirks.system_inline:
        return _with_quirks(draft, _SYSTEM_FIRST, {"system_inline": False})
    return _with_quirks(draft, _NO_SYSTEM, _AS_USER)


def _fewer_stops(draft: RequestDraft, found: Any) -> Repaired | None:
    assert draft.quirks is not None
    most = min(int(found["most"]), draft.quirks.stop_limit)
    return _with_quirks(draft, f"stop: at most {found['most']}", {"stop_limit": most})


RULES: Final[tuple[Rule[Any], ...]] = (
    _sets(
        "dialect_limit",
        names_field(
            ("max_tokens",),
            r"unsupported parameters?:? max_tokens\b|\buse max_completion_tokens instead",
        ),
        "Unsupported parameter: max_tokens",
        max_tokens_field="max_completion_tokens",
    ),
    _sets(
        "dialect_limit",
        names_field(
            ("max_completion_tokens",),
            rf"\bmax_completion_tokens (?:is |are )?{_REFUSED}|\buse max_tokens instead",
        ),
        "Unsupported parameter: max_completion_tokens",
        max_tokens_field="max_tokens",
    ),
    _sets(
        "dialect_usage",
        names_member(
            "stream_options",
            rf"\bstream_options\b.{{0,60}}{_REFUSED}|{_REFUSED}.{{0,30}}stream_opt",
        ),
        "Unsupported parameter: stream_options",
        stream_usage=False,
    ),
    _sets(
        "dialect_signature",
        says(r"\bmissing an? thought_signature"),
        "Function call is missing a thought_signature",
        thought_signature=True,
    ),
    _rule(
        "dialect_thinking",
        says(
            rf"\btools\b.{{0,40}}\breasoning_effort\b.{{0,60}}{_REFUSED}",
            rf"\breasoning_effort\b.{{0,80}}\btools\b.{{0,40}}{_REFUSED}",
        ),
        _no_thinking_with_tools,
    ),
    _rule("dialect_thinking", _thinking_members, _no_reasoning),
    # With all messages: some providers want those without calls as well.
    _sets("dialect_thoughts", wants_thoughts, THOUGHTS_WANTED, reasoning_content="all"),
    _rule("dialect_extra_body", lambda refusal: [path[0] for path in refusal.paths], _less_extra),
    Rule(
        "dialect_format",
        says(_INVALID_SCHEMA, r"\bresponse_format[. ](?:json_schema\.)?strict\b"),
        # Not the provider's own words: those may go on to call for the next form.
        lambda draft, _: _with_quirks(draft, "response_format strict is refused", _NOT_STRICT),
        when=lambda draft: draft.quirks is not None and draft.quirks.strict_schema,
        # From strict to loose, to any JSON, to words.
        most=3,
    ),
    _lesser_format("json_object", rf"\bjson_object\b.{{0,60}}{_REFUSED}"),
    _lesser_format(
        "json_schema",
        rf"\bresponse_format\b.{{0,20}}\btype is {_REFUSED}|\bjson_schema\b.{{0,60}}{_REFUSED}",
        _INVALID_SCHEMA,
    ),
    _lesser_format("parameter", rf"\bresponse_format (?:parameter )?(?:is |are )?{_REFUSED}"),
    _sets(
        "dialect_roles",
        says(
            rf"\bdeveloper\b.{{0,20}}{_REFUSED}",
            r"(?:not support|unexpected role|invalid role:?) developer\b",
        ),
        "role developer is not supported",
        system_role="system",
    ),
    _sets(
        "dialect_roles",
        says(
            rf"\bsystem role (?:is )?{_REFUSED}|\brole:? system (?:is )?{_REFUSED}",
            r"(?:not support|unexpected role|invalid role:?) system\b(?! after)",
            r"only user(?:,| and)(?: and)? assistant roles are supported",
        ),
        _NO_SYSTEM,
        **_AS_USER,
    ),
    _sets(
        "dialect_roles",
        says(r"system messages? must be (?:at|in) the (?:beginning|start)"),
        _SYSTEM_FIRST,
        system_inline=False,
    ),
    Rule(
        "dialect_roles",
        refuses_system,
        _fewer_system_messages,
        when=_is_translated,
        # First those in the middle of a conversation, then the system prompt.
        most=2,
    ),
    _sets(
        "dialect_null",
        says(
            r"\bcontent\b.{0,60}"
            r"(?:got null|invalid type: null|(?:not|n.t) be null|none is not an allowed)"
        ),
        "content may not be null",
        null_content=False,
    ),
    _rule(
        "dialect_stops",
        says(r"\bstop\b.{0,80}(?:maximum length|at most|up to|no more than) (?P<most>\d{1,2})\b"),
        _fewer_stops,
    ),
)
"""One name for each thing that may be translated otherwise: each is changed once in a request."""

ORDER: Final[tuple[Rule[Any], ...]] = (
    # Messages of the same role are joined in the translation. What is left is a message of the
    # user after a result: the templates that check the roles do not count results.
    _sets("dialect_order", wants_alternation, ALTERNATION_WANTED, user_after_tool=False),
)
"""Considered after the repairs of the conversation, because pictures in results are lost by it."""
