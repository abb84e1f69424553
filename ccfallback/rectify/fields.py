"""Fields, flags and values that a provider does not know or does not accept.

A refused field is removed, or replaced by what the provider accepts.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from ccfallback.messages.body import Body
from ccfallback.messages.edit import ANY, Path, without
from ccfallback.messages.effort import (
    CONFIG,
    EFFORT,
    EFFORTS,
    has_efforts_in_messages,
    thinking_settings,
    with_at_most,
    with_effort_among,
    with_efforts_at_the_top,
    without_effort,
    without_empty_config,
)
from ccfallback.messages.output_format import with_current_format, with_schema_in_words
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.prompt_length import ContextSizes, context_sizes
from ccfallback.messages.system import without_billing
from ccfallback.messages.turns import kind_of
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.betas import without_betas
from ccfallback.rectify.rule import (
    Refusal,
    Repaired,
    Rule,
    names_field,
    names_member,
    on_body,
    repaired,
    says,
    unknown_field,
)

# --- Beta flags ---

_ABOUT_FLAGS: Final = says(r"anthropic[-_]beta|beta (?:flag|header|feature)s?\b")
_REFUSED: Final = says(
    r"unexpected|unsupported|unknown|unrecognized|invalid|not (?:supported|allowed|permitted|valid)"
)
_KNOWN: Final = lazy_re(r"(?:supported|allowed|valid|accepted|expected|available) (?:\w+ ){0,2}are")
_LOGIN: Final = "oauth-"
"""Without this flag the login itself is refused."""


def _text_about_flags(refusal: Refusal) -> str:
    is_refusal = _ABOUT_FLAGS(refusal) and _REFUSED(refusal)
    return _KNOWN.split(refusal.text)[0] if is_refusal else ""


def _without_flags(draft: RequestDraft, text: str) -> Repaired | None:
    """Remove the flags that the refusal names; some gateways refuse all without a name."""
    named = {beta for beta in draft.betas if _names(text, beta)}
    if not named and re.search(r"\binvalid beta flags?\b", text):
        named = {beta for beta in draft.betas if not beta.startswith(_LOGIN)}
    if not named:
        return None
    made, fields = without_betas(draft, frozenset(named))
    names = ", ".join(sorted(named))
    flags = "beta flag" if len(named) == 1 else "beta flags"
    return Repaired(
        made,
        f"{len(named)} {flags} removed: {names}" + (f", and {', '.join(fields)}" if fields else ""),
        f"Unexpected value(s) {names} for the anthropic-beta header",
    )


def _names(text: str, beta: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(beta.lower())}(?![\w-])", text) is not None


# --- Context management ---

_CONTEXT: Final = "context_management"
_WITHOUT_THINKING: Final = "clear_thinking edits go only with thinking"
_NEEDS_THINKING: Final = r"clear_thinking\w*\b.{0,40}\brequires\b.{0,20}\bthinking"


def without_clearing(body: Body) -> Body:
    """The body without the edits that clear thinking from the history."""
    management = body.get(_CONTEXT)
    edits = management.get("edits") if isinstance(management, dict) else None
    if not isinstance(edits, list):
        return body
    kept = [edit for edit in edits if not kind_of(edit).startswith("clear_thinking_")]
    if len(kept) == len(edits):
        return body
    if not kept:
        return body.without(_CONTEXT)
    return body.with_members(context_management={**management, "edits": kept})


_CLEAR_NOTHING: Final = on_body(without_clearing, "clear_thinking removed")


def _thinking_is_off(draft: RequestDraft) -> bool:
    return thinking_settings(draft.body).get("type") in (None, "disabled")


# --- Effort and the rest of `output_config` ---

_BUDGET: Final[Path] = (CONFIG, "task_budget")
_OF_MESSAGE: Final[Path] = ("messages", ANY, CONFIG)

_NO_EFFORT: Final = (
    r"(?:does not|doesnt|not) support(?: the)? (?:output_config\.)?(?:effort|reasoning_effort)\b"
    r"|\b(?:effort|reasoning_effort)(?: parameter)?"
    r" (?:(?:is|are) (?:not supported|unsupported)|requires a model that supports)"
    r"|(?:unsupported|unknown|unrecognized) (?:parameter|field|argument)s?:? reasoning_effort\b"
)
_SAYS_NO_EFFORT: Final = says(_NO_EFFORT)
_SOME_EFFORTS: Final = says(
    r"\b(?:output_config\.effort|reasoning_effort)\b.{0,120}?"
    r"(?:input should be|supported values are|must be one of|expected one of|should be one of)"
    r":? (?P<known>(?:\w+(?:, (?:or |and )?| or | and )?){1,9})"
)


def _known_efforts(refusal: Refusal) -> tuple[str, ...]:
    """The efforts that a refusal calls the only ones, in order."""
    match = _SOME_EFFORTS(refusal)
    words = re.split(r"\W+", match["known"]) if match else []
    return tuple(effort for effort in EFFORTS if effort in words)


def _lower_effort(draft: RequestDraft, known: tuple[str, ...]) -> Repaired | None:
    body, names = with_effort_among(draft.body, known), ", ".join(known)
    lesson = f"output_config.effort: Input should be {names}"
    return repaired(draft, body, f"effort changed to one of {names}", lesson=lesson)


def _is_about_messages(refusal: Refusal) -> bool:
    return "per-turn effort" in refusal.text or any(
        path[:3] == _OF_MESSAGE for path in refusal.paths
    )


def _is_about_reasoning_effort(refusal: Refusal) -> bool:
    return "reasoning_effort" in refusal.text and bool(_SAYS_NO_EFFORT(refusal))


def _without_reasoning_effort(body: Body) -> Body:
    """A provider with `reasoning_effort` gets a budget of thinking as an effort, too."""
    body = without_effort(body)
    return body.without("thinking") if thinking_settings(body).get("type") == "enabled" else body


def _without_config(body: Body) -> Body:
    """A format is asked for in words: without it the answer would have another form."""
    return with_schema_in_words(body).without(CONFIG)


_FORMAT: Final[Path] = (CONFIG, "format")
_NO_FORMAT: Final = (
    r"(?:output_config\.format|output_format|structured outputs?)(?: parameter)?"
    r" (?:(?:is|are) (?:not supported|unsupported|not available)|requires a model that supports)"
    r"|(?:does not|doesnt|not) support(?: the)? (?:output_config\.format|output_format"
    r"|structured outputs?)\b"
)


def _refuses_format(refusal: Refusal) -> bool:
    return names_field(_FORMAT, _NO_FORMAT)(refusal) or names_member("output_format")(refusal)


# --- Any other field ---

KEPT: Final = frozenset(
    {
        *("model", "messages", "max_tokens", "tools", "system", "stream", "tool_choice"),
        *("output_format", "thread", "compaction", "inference_geo"),
    }
)
"""Members without which the request would mean something else."""

TOOL_FIELDS: Final = frozenset(
    {"input_examples", "defer_loading", "eager_input_streaming", "strict", "allowed_callers"}
)
_CONTENT: Final = frozenset({"input", "input_schema", "schema", "data"})
"""Members whose inside is not part of the protocol."""

_OTHERS: Final = frozenset(
    {
        *("context_management", "output_config", "cache_control", "signature"),
        *("temperature", "top_p", "top_k", "stop_sequences", "block_binding", "display"),
    }
)
"""Fields that have a repair of their own."""


def _removable_paths(refusal: Refusal) -> list[Path]:
    return [path for path in refusal.paths if _is_removable(path)]


def _is_removable(path: Path) -> bool:
    if len(path) == 1 and path[0] in KEPT:
        return False
    if path[0] == "tools" and path[-1] in TOOL_FIELDS:
        return False
    return _OTHERS.isdisjoint(path) and _CONTENT.isdisjoint(path[:-1])


def _without_fields(draft: RequestDraft, paths: list[Path]) -> Repaired | None:
    body, gone = draft.body, []
    for path in paths:
        body, count = without(body, path)
        gone += [path] if count else []
    names = ", ".join(".".join(path) for path in gone)
    return repaired(draft, body, names and f"{names} removed", lesson=unknown_field(*gone))


# --- Sampling and other parameters ---

_SAMPLING: Final = ("temperature", "top_p", "top_k")
_NAME: Final = r"\b(?:temperature|top_p|top_k)\b"
_ONE: Final = lazy_re(
    r"unsupported (?:value|parameter)s?:? (?P<first>temperature|top_p|top_k)\b"
    r"|\binvalid (?P<second>temperature|top_p|top_k): only 1(?:\.0)? is allowed"
    r"|\b(?P<third>temperature|top_p|top_k)(?: parameter)? (?:is|are) (?:not supported|unsupported)"
    r"|not support(?: the)? (?P<fourth>temperature|top_p|top_k)\b"
)
_PARAMETER: Final = lazy_re(
    r"unsupported (?:value|parameter)s?:? (?P<first>stop|stop_sequences|parallel_tool_calls|user)\b"
    r"|\b(?P<second>parallel_tool_calls|stop_sequences)(?: parameter)? is not supported"
    r"|not support(?: the)? (?P<third>parallel_tool_calls|stop_sequences)\b"
)


def _named_members(form: re.Pattern[str], refusal: Refusal) -> list[str]:
    """The members that a refusal names, as unknown or in this form."""
    named = [path[0] for path in refusal.paths if len(path) == 1]
    named += [name for match in form.finditer(refusal.text) for name in match.groups() if name]
    return list(dict.fromkeys(named))


def _named_sampling(refusal: Refusal) -> list[str]:
    named = _named_members(_ONE, refusal)
    return [name for name in _SAMPLING if name in named]


def _without_sampling(draft: RequestDraft, names: object) -> Repaired | None:
    """Remove the named members; all of them if none is named."""
    there = [
        name for name in (names if isinstance(names, list) else _SAMPLING) if name in draft.body
    ]
    lesson = None
    if isinstance(names, list):
        lesson = "; ".join(f"Unsupported parameter: {name}" for name in names)
    changed = f"{', '.join(there)} removed"
    return repaired(draft, draft.body.without(*there), changed, lesson=lesson)


def _without_parallel(body: Body) -> Body:
    return without(body, ("tool_choice", "disable_parallel_tool_use"))[0]


def _without_user(body: Body) -> Body:
    body = without(body, ("metadata", "user_id"))[0]
    return body.without("metadata") if body.get("metadata") == {} else body


_PARAMETERS: Final[Mapping[str, tuple[str, Callable[[Body], Body]]]] = {
    "stop": ("stop_sequences", lambda body: body.without("stop_sequences")),
    "stop_sequences": ("stop_sequences", lambda body: body.without("stop_sequences")),
    "parallel_tool_calls": ("disable_parallel_tool_use", _without_parallel),
    "user": ("user_id", _without_user),
}
"""By the provider's name of a parameter: the client's name, and how it is removed."""


def _without_parameters(draft: RequestDraft, named: list[str]) -> Repaired | None:
    body, gone, lessons = draft.body, [], []
    for name in named:
        own_name, remove = _PARAMETERS.get(name, ("", lambda body: body))
        changed = remove(body)
        if changed is not body:
            body = changed
            gone.append(own_name)
            lessons.append(f"Unsupported parameter: {name}")
    changed_words = f"{', '.join(gone)} removed"
    return repaired(draft, body, changed_words, lesson="; ".join(lessons))


# --- The length of the answer ---

_LIMIT: Final = r"\bmax_(?:completion_|output_)?tokens\b"
_MOST: Final = r"(?P<most>\d[\d,]{0,11})"
_LIMITS: Final = tuple(
    lazy_re(pattern)
    for pattern in (
        rf"{_LIMIT}: \d[\d,]* > {_MOST},? which is the maximum",
        rf"{_LIMIT}.{{0,40}}too (?:large|high|big).{{0,80}}supports at most {_MOST}\b",
        rf"range of {_LIMIT} (?:should be|is) \[\d+, ?{_MOST}\]",
        rf"{_LIMIT}.{{0,40}}range\b.{{0,40}}\[\d+, ?{_MOST}\]",
        rf"(?<!\+ ){_LIMIT}:? (?:value )?(?:must|should|has to) be"
        rf" (?:less than or equal to|<=|at most|no (?:more|greater) than) ?{_MOST}\b",
        rf"{_LIMIT}: input should be less than or equal to {_MOST}\b",
        rf"maximum tokens you requested exceeds the model limit of {_MOST}\b",
        rf"{_LIMIT}.{{0,20}}(?:exceeds|exceeded|above|over) (?:the )?(?:model )?(?:output )?"
        rf"(?:limit|maximum)(?: of|:)? {_MOST}\b",
        # Volcengine
        rf"{_LIMIT}.{{0,80}}expected a value (?:<=|less than or equal to|at most) ?{_MOST}\b",
        # vLLM
        rf"{_LIMIT} ?= ?\d+ (?:cannot|must not|can not) be greater than [a-z_=]{{0,60}}={_MOST}\b",
        # Gemini, whose end may be excluded
        rf"\bmax_?output_?tokens\b.{{0,60}}range is from \d+ \(inclusive\) to {_MOST}"
        r" \((?P<edge>in|ex)clusive\)",
        rf"{_LIMIT}.{{0,40}}between \d+ and {_MOST}\b",
        rf"\bmax(?:imum)? (?:allowed )?(?:value )?(?:for|of) {_LIMIT} is:? {_MOST}\b",
    )
)
_OF_CONTEXT: Final = says(r"context (?:length|limit|window)|prompt|input (?:length|tokens)")


def _answer_limit(refusal: Refusal) -> int:
    """The longest answer that the model gives; zero if the refusal is not about that."""
    match = next((found for limit in _LIMITS if (found := limit.search(refusal.text))), None)
    if match is None or _OF_CONTEXT(refusal):
        return 0
    is_excluded = match.groupdict().get("edge") == "ex"
    return int(match["most"].replace(",", "")) - is_excluded


def _fit_answer_limit(draft: RequestDraft, most: int) -> Repaired | None:
    lesson = f"max_tokens is too large: this model supports at most {most}"
    return _shorten_answer(draft, most, lesson) if most < draft.body.max_tokens else None


LEAST_ANSWER: Final = 2048
"""Tokens with which an agent can do something."""

_LEAST: Final = r"(?P<least>\d[\d,]{0,6})"
_LOWER_LIMIT: Final = says(
    rf"{_LIMIT}.{{0,60}}(?:>=|at least|no less than|(?:greater|more) than or equal to) ?{_LEAST}\b",
    rf"\bminimum (?:allowed )?(?:value )?(?:for|of) {_LIMIT} is:? (?P<lowest>\d[\d,]{{0,6}})\b",
    rf"{_LIMIT}.{{0,40}}\b(?:greater|higher|larger|more) than (?P<above>\d[\d,]{{0,6}})\b",
    # Without a number, as OpenAI's models say that think
    rf"{_LIMIT}.{{0,60}}\b(?:too (?:low|small|short)|below (?:the )?minimum|increase)",
    rf"\b(?:higher|larger|increase(?: the)?) {_LIMIT}|{_LIMIT} or model output limit was reached",
)
_OF_BUDGET: Final = says(r"budget_?tokens")


def least_limit(refusal: Refusal) -> int:
    """The lowest limit of the answer that is accepted; zero if the refusal is not about that."""
    found = _LOWER_LIMIT(refusal)
    if found is None or _OF_BUDGET(refusal) or _OF_CONTEXT(refusal):
        return 0
    number = next(filter(None, found.groups()), "").replace(",", "")
    return int(number) + (found["above"] is not None) if number else LEAST_ANSWER


def _with_least_limit(draft: RequestDraft, least: int) -> Repaired | None:
    """Allow a longer answer: clients check a login or a model with an answer of one token."""
    now = draft.body.max_tokens
    if not 0 < now < least:
        return None
    changed = f"max_tokens changed from {now} to {least}"
    lesson = f"max_tokens must be at least {least}"
    return repaired(draft, draft.body.with_members(max_tokens=least), changed, lesson=lesson)


_MARGIN: Final = 256
"""Tokens of a template around the prompt; a hundredth of it is added for inexact counts."""


def _within_context(draft: RequestDraft, sizes: ContextSizes) -> Repaired | None:
    """Ask for an answer that fits. Another request for the same model may have room enough.

    If the room is too small, or unknown, the client has to shorten the conversation.
    """
    if sizes.prompt is None or sizes.prompt < 0:
        return None
    room = sizes.limit - sizes.prompt - sizes.prompt // 100 - _MARGIN
    return _shorten_answer(draft, room) if LEAST_ANSWER <= room < draft.body.max_tokens else None


_LOWER_BOUND: Final = lazy_re(r"\b(?:prompt|input) contains at least \d")


def _sizes_at_least(refusal: Refusal) -> ContextSizes | None:
    """The numbers in a refusal that counts the prompt only as far as it does not fit."""
    return context_sizes(refusal.text) if _LOWER_BOUND.search(refusal.text) else None


def _halve_answer(draft: RequestDraft, sizes: ContextSizes) -> Repaired | None:
    """Ask for an answer of half the length, or of half the context: how much room there is, the
    provider does not say."""
    most = min(sizes.limit, draft.body.max_tokens) // 2
    return _shorten_answer(draft, most) if most >= LEAST_ANSWER else None


def _shorten_answer(draft: RequestDraft, most: int, lesson: str | None = None) -> Repaired | None:
    """An answer of at most so many tokens, thinking included."""
    body = with_at_most(draft.body, most)
    if "thinking" in draft.body and "thinking" not in body:
        body = without_clearing(body)
    changed = f"max_tokens changed from {draft.body.max_tokens} to {most}"
    return repaired(draft, body, changed, lesson=lesson)


BETA_FLAGS: Final[tuple[Rule[Any], ...]] = (Rule("beta_flags", _text_about_flags, _without_flags),)

OWN_FIELDS: Final[tuple[Rule[Any], ...]] = (
    Rule(
        "context_management",
        says(r"input tag clear_thinking\w* found"),
        _CLEAR_NOTHING,
        "Input tag clear_thinking found using type does not match any expected tag",
    ),
    Rule(
        "context_management",
        says(_NEEDS_THINKING, _WITHOUT_THINKING),
        _CLEAR_NOTHING,
        _WITHOUT_THINKING,
        when=_thinking_is_off,
    ),
    Rule(
        "context_management",
        says(r"context_management cannot be used with compaction"),
        on_body(lambda body: body.without(_CONTEXT), f"{_CONTEXT} removed"),
        "context_management cannot be used with compaction",
        when=lambda draft: "compaction" in draft.body,
    ),
    # There is thinking, so it is unknown why the edit is refused.
    Rule("context_management", says(_NEEDS_THINKING), _CLEAR_NOTHING),
    Rule(
        "context_management",
        names_member(
            _CONTEXT,
            r"context_management\b.{0,20} (?:is not|not) (?:supported|allowed|available)",
            r"(?:does not|doesnt) support context[_ ]management",
        ),
        on_body(lambda body: body.without(_CONTEXT), f"{_CONTEXT} removed"),
        unknown_field((_CONTEXT,)),
    ),
    Rule("output_config", _known_efforts, _lower_effort),
    Rule(
        "output_config",
        _is_about_messages,
        on_body(
            lambda body: with_efforts_at_the_top(body) if has_efforts_in_messages(body) else body,
            "output_config of messages moved to the top",
        ),
        unknown_field(_OF_MESSAGE),
    ),
    Rule(
        "output_config",
        _is_about_reasoning_effort,
        on_body(_without_reasoning_effort, "effort removed"),
        "reasoning_effort is not supported",
    ),
    Rule(
        "output_config",
        names_field(EFFORT, _NO_EFFORT),
        on_body(without_effort, "effort removed"),
        unknown_field(EFFORT),
    ),
    Rule(
        "output_config",
        says(r"output_format\b.{0,80}\buse output_config\.format"),
        on_body(with_current_format, "output_format moved into output_config"),
        "output_format: use output_config.format instead",
    ),
    Rule(
        "output_config",
        _refuses_format,
        on_body(with_schema_in_words, "schema of the answer put into words"),
        unknown_field(_FORMAT),
    ),
    Rule(
        "output_config",
        names_field(
            _BUDGET,
            r"task_budget(?: parameter)? (?:is not supported|requires a model that supports)",
            r"(?:does not|not) support(?: the)? task[_ ]budgets?\b",
        ),
        on_body(
            lambda body: without_empty_config(without(body, _BUDGET)[0]), "task_budget removed"
        ),
        unknown_field(_BUDGET),
    ),
    Rule(
        "output_config",
        names_field((CONFIG,)),
        on_body(_without_config, "output_config removed"),
        unknown_field((CONFIG,)),
    ),
    Rule(
        "billing_text",
        says(r"x-anthropic-billing-header.{0,20}reserved"),
        on_body(without_billing, "billing line removed from the system prompt"),
        "x-anthropic-billing-header is a reserved keyword",
    ),
)

ANY_FIELD: Final[tuple[Rule[Any], ...]] = (
    Rule("extra_fields", _removable_paths, _without_fields),
    # Without thinking the model accepts them.
    Rule("sampling", says(rf"{_NAME}.{{0,60}}\bwhen thinking is enabled"), _without_sampling),
    Rule(
        "sampling",
        says(
            r"\btemperature and top_p cannot both be (?:specified|set)",
            r"cannot (?:specify|set) both temperature and top_p",
        ),
        on_body(
            lambda body: body.without("top_p") if "temperature" in body else body, "top_p removed"
        ),
        "temperature and top_p cannot both be specified",
    ),
    Rule(
        "sampling",
        says(
            rf"{_NAME}.{{0,20}}\b(?:is|are) deprecated\b",
            rf"{_NAME}.{{0,60}}\bnot (?:supported|allowed|permitted) (?:under|with|in)"
            r" .{0,40}version",
            r"\bsampling parameters\b.{0,40}\bnot (?:supported|allowed|permitted)",
        ),
        _without_sampling,
        "temperature is deprecated for this model",
    ),
    Rule("sampling", _named_sampling, _without_sampling),
    Rule("parameters", lambda refusal: _named_members(_PARAMETER, refusal), _without_parameters),
    Rule("max_tokens", least_limit, _with_least_limit),
    Rule("max_tokens", _answer_limit, _fit_answer_limit),
    Rule("context_limit", _sizes_at_least, _halve_answer, most=4),
    Rule("context_limit", lambda refusal: context_sizes(refusal.text), _within_context),
)
