"""Rectifiers: known repairs of a refused request. Pure: an Anthropic draft in, one out.

One file a rectifier, one place in `RECTIFIERS`; the switch in `[rectifier]` is its name.
"""

from collections.abc import Collection, Iterable
from typing import Final

from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.learned import LearnedRejection
from ccfallback.rectify.after_results import AFTER_RESULTS
from ccfallback.rectify.alternation import ALTERNATION
from ccfallback.rectify.beta_flags import BETA_FLAGS
from ccfallback.rectify.billing_text import BILLING_TEXT
from ccfallback.rectify.block_types import BLOCK_TYPES
from ccfallback.rectify.cache_control import CACHE_CONTROL
from ccfallback.rectify.cache_marks import CACHE_MARKS
from ccfallback.rectify.citations import CITATIONS
from ccfallback.rectify.context_limit import CONTEXT_LIMIT
from ccfallback.rectify.context_management import CONTEXT_MANAGEMENT
from ccfallback.rectify.dialect import DIALECTS
from ccfallback.rectify.empty_text import EMPTY_TEXT
from ccfallback.rectify.extra_fields import EXTRA_FIELDS
from ccfallback.rectify.forced_tool import FORCED_TOOL
from ccfallback.rectify.max_tokens import MAX_TOKENS
from ccfallback.rectify.media import MEDIA
from ccfallback.rectify.orphan_results import ORPHAN_RESULTS
from ccfallback.rectify.output_config import OUTPUT_CONFIG
from ccfallback.rectify.parameters import PARAMETERS
from ccfallback.rectify.prefill import PREFILL
from ccfallback.rectify.reasoning_content import REASONING_CONTENT
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired
from ccfallback.rectify.sampling import SAMPLING
from ccfallback.rectify.server_tools import SERVER_TOOLS
from ccfallback.rectify.signature_field import SIGNATURE_FIELD
from ccfallback.rectify.system_role import SYSTEM_ROLE
from ccfallback.rectify.thinking_binding import THINKING_BINDING
from ccfallback.rectify.thinking_budget import THINKING_BUDGET
from ccfallback.rectify.thinking_fields import THINKING_FIELDS
from ccfallback.rectify.thinking_latest import THINKING_LATEST
from ccfallback.rectify.thinking_mode import THINKING_MODE
from ccfallback.rectify.thinking_signature import THINKING_SIGNATURE
from ccfallback.rectify.thinking_start import THINKING_START
from ccfallback.rectify.tool_changes import TOOL_CHANGES
from ccfallback.rectify.tool_fields import TOOL_FIELDS
from ccfallback.rectify.tool_ids import TOOL_IDS
from ccfallback.rectify.tool_name_form import TOOL_NAME_FORM
from ccfallback.rectify.tool_names import TOOL_NAMES
from ccfallback.rectify.tool_schemas import TOOL_SCHEMAS
from ccfallback.rectify.tool_use_concurrency import TOOL_USE_CONCURRENCY
from ccfallback.rectify.tools_missing import TOOLS_MISSING

RECTIFIERS: Final[tuple[Rectifier, ...]] = (
    *DIALECTS,
    BETA_FLAGS,
    CONTEXT_MANAGEMENT,
    OUTPUT_CONFIG,
    TOOL_FIELDS,
    CACHE_CONTROL,
    TOOL_CHANGES,
    SYSTEM_ROLE,
    BILLING_TEXT,
    SIGNATURE_FIELD,
    THINKING_FIELDS,
    EXTRA_FIELDS,
    SAMPLING,
    PARAMETERS,
    MAX_TOKENS,
    CONTEXT_LIMIT,
    THINKING_BINDING,
    THINKING_SIGNATURE,
    THINKING_START,
    THINKING_LATEST,
    THINKING_BUDGET,
    THINKING_MODE,
    FORCED_TOOL,
    REASONING_CONTENT,
    BLOCK_TYPES,
    SERVER_TOOLS,
    TOOL_USE_CONCURRENCY,
    ORPHAN_RESULTS,
    TOOL_IDS,
    TOOL_NAMES,
    TOOL_NAME_FORM,
    TOOLS_MISSING,
    TOOL_SCHEMAS,
    EMPTY_TEXT,
    CACHE_MARKS,
    CITATIONS,
    MEDIA,
    AFTER_RESULTS,
    ALTERNATION,
    PREFILL,
)
"""In the order in which they are considered: the provider's own words, fields and flags, thinking,
then structure. What knows a field of its own comes before what takes any field out."""


BY_NAME: Final = {rectifier.name: rectifier for rectifier in RECTIFIERS}


ROUNDS: Final = 3
"""One repair may bring up what another is for, as when it moves a field to where it is refused."""

_PLACES: Final = {name: place for place, name in enumerate(BY_NAME)}


def rectify(
    draft: RequestDraft, refusal: Refusal, *, skip: Collection[str] = ()
) -> tuple[str, Repaired] | None:
    """The first repair that applies and is not to be skipped: its name and what it made."""
    for rectifier in RECTIFIERS:
        if rectifier.name not in skip:
            repaired = attempt(rectifier, draft, refusal)
            if repaired is not None:
                return rectifier.name, repaired
    return None


def prevent(
    draft: RequestDraft, lessons: Iterable[LearnedRejection], *, skip: Collection[str] = ()
) -> tuple[RequestDraft, list[LearnedRejection]]:
    """The draft without what is known to be refused, and the lessons that were of use."""
    known = sorted(
        (lesson for lesson in lessons if lesson.rectifier in BY_NAME.keys() - skip),
        key=lambda lesson: _PLACES[lesson.rectifier],
    )
    used: list[LearnedRejection] = []
    for _ in range(ROUNDS):
        before = draft
        for lesson in known:
            repaired = attempt(BY_NAME[lesson.rectifier], draft, Refusal(400, lesson.text))
            if repaired is not None:
                draft = repaired.draft
                used.append(lesson)
        if draft is before:
            break
    return draft, used


def attempt(rectifier: Rectifier, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
    """A rectifier's repair; none where the body is nested so deeply that no code can walk it."""
    try:
        return rectifier.repair(draft, refusal)
    except RecursionError:
        return None
