"""The plain form: the plainest request that says the same.

It answers a refusal that no rule knows. It is made in steps, each of which gives up one part of
what newer clients send. If the provider accepts it, the following requests find out which steps
are needed; see `rectify.narrowing`.
"""

from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ccfallback.messages import json_schema
from ccfallback.messages.body import Body
from ccfallback.messages.media import base64_data
from ccfallback.messages.output_format import with_schema_in_words
from ccfallback.messages.patterns import lazy_re
from ccfallback.messages.prompt_length import says_prompt_too_long
from ccfallback.messages.system import without_billing, without_system_messages
from ccfallback.messages.thinking import without_thoughts
from ccfallback.messages.tools import (
    LONGEST_DESCRIPTION,
    MOST_TOOLS,
    available_note,
    is_custom,
    with_at_most_tools,
    with_short_descriptions,
)
from ccfallback.messages.turns import (
    SPOKEN,
    Block,
    content_list,
    is_server_result,
    kind_of,
    objects_in,
    role_of,
    string,
    text_block,
    texts_in,
    with_content,
    without_empty_messages,
)
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify import attempt
from ccfallback.rectify.betas import UNLOCKED, Feature
from ccfallback.rectify.rule import Refusal
from ccfallback.rectify.thinking import without_switch
from ccfallback.rectify.turns import merged

# --- The refusals that it may answer ---

_REFUSALS: Final = frozenset({200, 400, 413, 415, 422})
"""Statuses that speak of the request itself; 200 stands for an error in the place of an answer."""

_MAYBE: Final = frozenset({404, 500, 501})
"""Statuses of which only the text tells whether they are about the request."""

_FEATURE: Final = (
    r"(?:image|vision|audio|video|file|document|pdf|multi-?modal|modalit|input|tool|function"
    r"|parameter|schema|grammar|format|stream|system|role|thinking|reasoning|cach|stop|prefill"
    r"|feature|beta|content|message|logprob|temperature)"
)
_ABOUT_REQUEST: Final = lazy_re(
    # OpenRouter, which has no endpoint for a request
    rf"no endpoints? found that (?:support|can handle)|support\w*(?: \w+){{0,3}} {_FEATURE}"
    rf"|{_FEATURE}\w*(?: \w+){{0,3}} (?:is |are )?(?:not|un)[ -]?(?:supported|implemented|allowed)"
    # A refusal that another status wraps
    r"|\b(?:status|code|error|http)\W{0,10}(?:code\W{0,3})?(?:400|422)\b|\b4(?:00|22) bad request"
    r"|bad ?request|invalid[_ ]request|validation ?error|unprocessable"
    r"|extra (?:inputs|fields)|unknown (?:field|variant|name|parameter)|must alternate"
    r"|unexpected role|invalid (?:type|value|role|message|tool|schema|parameter|json)"
    # The template of a local model
    r"|\bjinja|\btemplate\b|raise_exception|minja|failed to (?:parse|apply|convert|generate)"
    r"|\bgrammar\b|\bmmproj\b|is not iterable|not callable|has no attribute|\bundefined\b"
)
_NOT_ABOUT_REQUEST: Final = lazy_re(
    r"\bmodels? (?:\S+ ){0,4}(?:not (?:found|exist|supported|available|loaded)"
    r"|does ?n[o.]?t exist|do not (?:have|exist)|unknown|is unavailable)"
    r"|(?:unknown|invalid|unsupported|no such|missing) model\b|model_not_found"
    r"|model:? \S+ (?:was |is )?not found|no endpoints? found (?:for|matching)"
    r"|api[ _-]?key|unauthori[sz]ed|authenticat|credential|permission denied|access token"
    r"|\bquota|rate.?limit|too many requests|try again later|overload|capacity|time?d? ?out"
    r"|out of memory|cuda|safety|content (?:filter|polic|management)|moderation|flagged"
)


def may_help(refusal: Refusal) -> bool:
    """Whether a refusal that no rule knows may be about the way in which the request is written.

    It is not if it speaks of the model, the key, the length of the prompt or the server itself.
    """
    text = refusal.text
    if says_prompt_too_long(refusal.message, refusal.code) or _NOT_ABOUT_REQUEST.search(text):
        return False
    if refusal.status in _REFUSALS:
        return True
    return refusal.status in _MAYBE and _ABOUT_REQUEST.search(text) is not None


# --- Its steps ---


class Step(msgspec.Struct, frozen=True):
    """One part of what newer clients send, and how a request is sent without it."""

    name: str
    change: Callable[[RequestDraft], RequestDraft]


def apply(
    draft: RequestDraft, names: Collection[str] | None = None
) -> tuple[RequestDraft, tuple[str, ...]]:
    """The draft after these steps, or after all of them; and the steps that changed it."""
    changed = []
    for step in STEPS:
        if names is not None and step.name not in names:
            continue
        before = draft
        try:
            draft = step.change(draft)
        except RecursionError:
            # No provider reads what is nested so deeply either.
            continue
        if not _is_same(before, draft):
            changed.append(step.name)
    return draft, tuple(changed)


def _is_same(before: RequestDraft, after: RequestDraft) -> bool:
    return (
        before.betas == after.betas
        and before.quirks == after.quirks
        and (before.body is after.body or before.body.raw == after.body.raw)
    )


def _on_body(change: Callable[[Body], Body]) -> Callable[[RequestDraft], RequestDraft]:
    return lambda draft: draft.with_body(change(draft.body))


def _by_repairs(*repairs: tuple[str, str]) -> Callable[[RequestDraft], RequestDraft]:
    """A step that makes known repairs: their names, and refusals that call for them."""

    def change(draft: RequestDraft) -> RequestDraft:
        for name, refusal in repairs:
            made = attempt(name, draft, Refusal(400, refusal))
            draft = made.draft if made is not None else draft
        return draft

    return change


def _messages(body: Body, change: Callable[[dict[str, Any], int], dict[str, Any]]) -> Body:
    """The body with each message as `change` returns it for the message and its index."""
    made = [
        change(message, index) if isinstance(message, dict) else message
        for index, message in enumerate(body.messages)
    ]
    return body if made == body.messages else body.with_items("messages", made)


def _blocks(body: Body, change: Callable[[Any], list[Any]]) -> Body:
    """The body with each block of a message replaced by what `change` returns."""

    def changed(message: dict[str, Any], _index: int) -> dict[str, Any]:
        content = message.get("content")
        if not isinstance(content, list):
            return message
        made = [new for block in content for new in change(block)]
        return message if made == content else with_content(message, made)

    before = body
    body = _messages(body, changed)
    if body is before:
        return body
    return body.with_items("messages", without_empty_messages(body.messages))


_KNOWN: Final = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stream", "tools", "tool_choice"),
        *("stop_sequences", "temperature", "top_p", "top_k", "metadata", "thinking"),
        *("cache_control", "inference_geo"),
    }
)
"""Members of the oldest API, the promise of a region, and those that have a step of their own."""

_OWN_STEP: Final = frozenset({"system messages", "display", "thinking.block_binding"})
"""Features that another step gives up."""

_FEATURES: Final[tuple[Feature, ...]] = tuple(
    {
        feature.name: feature
        for _, features in UNLOCKED
        for feature in features
        if feature.name not in _OWN_STEP
    }.values()
)


def _without_betas(draft: RequestDraft) -> RequestDraft:
    body = with_schema_in_words(draft.body)
    for feature in _FEATURES:
        body = feature.remove(body) if feature.is_present(body) else body
    body = body.without(*(name for name in body.names if name not in _KNOWN))
    body = _messages(
        body, lambda message, _: {k: v for k, v in message.items() if k in ("role", "content")}
    )
    return replace(draft, body=body, betas=())


def _without_system_messages(body: Body) -> Body:
    return without_system_messages(without_billing(body))


def _without_thinking(body: Body) -> Body:
    body, _ = without_thoughts(body)
    return without_switch(body) if "thinking" in body else body


def _without_parameters(body: Body) -> Body:
    body = body.without("temperature", "top_p", "top_k", "metadata")
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return body.without("tool_choice")
    kind = kind_of(choice)
    if kind not in ("auto", "any", "tool"):
        return body.without("tool_choice")
    plain = {"type": kind} | ({"name": choice.get("name")} if kind == "tool" else {})
    return body if plain == choice else body.with_members(tool_choice=plain)


_MARK: Final = "cache_control"


def _without_marks(body: Body) -> Body:
    def unmarked(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        made = {key: each for key, each in value.items() if key != _MARK}
        if ("role" in made or kind_of(made) == "tool_result") and isinstance(
            made.get("content"), list
        ):
            made["content"] = [unmarked(each) for each in made["content"]]
        return made

    body = body.without(_MARK)
    for member in ("system", "tools", "messages"):
        items = body.get(member)
        made = [unmarked(each) for each in items] if isinstance(items, list) else items
        body = body if made == items else body.with_items(member, made)
    return body


_MEMBERS: Final = {
    "text": ("type", "text", _MARK),
    "image": ("type", "source", _MARK),
    "document": ("type", "source", "title", _MARK),
    "tool_use": ("type", "id", "name", "input", _MARK),
    "tool_result": ("type", "tool_use_id", "content", "is_error", _MARK),
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
}
"""The members of each type of block that every provider knows."""


def _with_known_blocks(body: Body) -> Body:
    """Say in words what is in a block of another type, and remove what is not in a plain block."""

    def known(block: Any) -> list[Any]:
        kind = kind_of(block)
        if kind not in _MEMBERS:
            return _in_words(block)
        made = {key: value for key, value in block.items() if key in _MEMBERS[kind]}
        if kind == "tool_result" and isinstance(block.get("content"), list):
            made["content"] = [new for each in block["content"] for new in known(each)]
        return [made]

    system = body.get("system")
    if isinstance(system, list):
        plain = [block for each in system if kind_of(each) == "text" for block in known(each)]
        body = body if plain == system else body.with_members(system=plain)
    return _blocks(body, known)


_TOLD: Final = (
    *("title", "url", "source", "text", "query", "command", "path", "stdout", "stderr"),
    *("error_code", "data"),
)
"""Members of other blocks that say something to a model, in order."""

_DEEPEST: Final = 6
_LONGEST_WORDS: Final = 20_000


def _in_words(block: Any) -> list[Any]:
    """A block in words; nothing if it says nothing."""
    kind = kind_of(block)
    if kind == "tool_reference":
        return [text_block(available_note(block.get("tool_name")))]
    said = "\n".join(_words(block, 0))[:_LONGEST_WORDS].strip()
    if not said:
        return []
    name = string(block, "name")
    if name:
        said = f"[{name}]\n{said}"
    elif is_server_result(block):
        said = f"[{kind}]\n{said}"
    return [text_block(said, like=block if isinstance(block, dict) else None)]


def _words(value: Any, depth: int) -> list[str]:
    if depth > _DEEPEST:
        return []
    if isinstance(value, list):
        return [words for each in value for words in _words(each, depth + 1)]
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in _TOLD if isinstance(value.get(key), str) and value[key].strip()]
    inner = [value[key] for key in ("input", "content", "source") if key in value]
    return [*own, *(words for each in inner for words in _words(each, depth + 1))]


def _with_text_results(body: Body) -> Body:
    """Tool results as one text; a note stands for what is not text."""

    def plain(block: Any) -> list[Any]:
        if kind_of(block) != "tool_result" or isinstance(block.get("content"), str):
            return [block]
        parts = [
            string(part, "text") if kind_of(part) == "text" else _note(part)
            for part in content_list(block)
        ]
        text = "\n\n".join(filter(str.strip, parts))
        return [{**block, "content": text or "(no output)"}]

    return _blocks(body, plain)


def _note(block: Any) -> str:
    """What stands for an image or a document; empty for another block without text."""
    kind = kind_of(block)
    if kind == "document":
        return _document_text(block)
    return f"[{kind} omitted]" if kind == "image" else ""


def _document_text(block: Block) -> str:
    """The text of a document; a note if it has none."""
    source, title = block.get("source"), string(block, "title")
    data = string(source, "data") if string(source, "type") == "text" else ""
    said = "\n\n".join(filter(str.strip, [title, data, *texts_in(source)]))
    is_text = data.strip() or any(map(str.strip, texts_in(source)))
    if is_text:
        return said
    return f"[document omitted: {title}]" if title.strip() else "[document omitted]"


def _without_media(body: Body) -> Body:
    """Notes for images and documents.

    A message of the user that has nothing else keeps its own: an answer to a note means nothing.
    """
    last = max((at for at, each in enumerate(body.messages) if role_of(each) == "user"), default=-1)

    def noted(block: Any) -> Any:
        note = _note(block)
        if note:
            return text_block(note, like=block)
        if kind_of(block) == "tool_result" and isinstance(block.get("content"), list):
            return with_content(block, [noted(each) for each in block["content"]])
        return block

    def changed(message: dict[str, Any], index: int) -> dict[str, Any]:
        content = message.get("content")
        if not isinstance(content, list):
            return message
        if index == last and all(map(_is_medium, content)):
            return message
        return with_content(message, [noted(block) for block in content])

    return _messages(body, changed)


def _is_medium(block: Any) -> bool:
    return kind_of(block) == "image" or (kind_of(block) == "document" and bool(base64_data(block)))


def _with_plain_schemas(body: Body) -> Body:
    tools = body.get("tools")
    if not isinstance(tools, list):
        return body
    made = [
        {**tool, "input_schema": json_schema.plain(tool.get("input_schema"))}
        if is_custom(tool)
        else tool
        for tool in tools
    ]
    return body if made == tools else body.with_items("tools", made)


_OF_TOOL: Final = ("name", "description", "input_schema", _MARK)


def _with_plain_tools(body: Body) -> Body:
    """Custom tools of few members, not too many, with short descriptions."""
    tools = body.get("tools")
    if tools is None:
        return body.without("tools", "tool_choice")
    custom = [tool for tool in objects_in(tools) if is_custom(tool) and string(tool, "name")]
    made = [{key: tool[key] for key in _OF_TOOL if key in tool} for tool in custom]
    if not made:
        return body.without("tools", "tool_choice")
    body = body if made == tools else body.with_items("tools", made)
    body = with_short_descriptions(with_at_most_tools(body, MOST_TOOLS), LONGEST_DESCRIPTION)
    choice = body.get("tool_choice")
    names = {tool["name"] for tool in made}
    if kind_of(choice) == "tool" and string(choice, "name") not in names:
        body = body.without("tool_choice")
    return body


_STRUCTURE: Final = _by_repairs(
    ("tool_names", "tool names must be unique"),
    ("tool_name_form", "tools.*.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"),
    ("orphan_results", "unexpected tool_use_id found in tool_result blocks"),
    ("tool_use_concurrency", "tool_use ids were found without tool_result blocks"),
    ("tool_ids", "tool ids should match pattern '^[a-zA-Z0-9_-]+$'"),
    ("empty_text", "text content blocks must be non-empty"),
    ("tools_missing", "requests which include tool_use or tool_result blocks must define tools"),
)


def _with_plain_structure(draft: RequestDraft) -> RequestDraft:
    """User and assistant take turns, the user first, and every call has its result."""
    draft = _STRUCTURE(draft)
    spoken = [each for each in draft.body.messages if isinstance(each, dict)]
    messages, _ = merged(spoken)
    if messages and role_of(messages[0]) in SPOKEN - {"user"}:
        messages = [{"role": "user", "content": [text_block("(start)")]}, *messages]
    if messages == draft.body.messages:
        return draft
    return draft.with_body(draft.body.with_items("messages", messages))


def _with_plain_dialect(draft: RequestDraft) -> RequestDraft:
    """Set how a request in another format is written plainest."""
    if draft.quirks is None:
        return draft
    quirks = replace(
        draft.quirks,
        sampling=False,
        top_k=False,
        stream_usage=False,
        user_field=False,
        reasoning="none",
        reasoning_content="drop",
        response_format="prompt",
        system_inline=False,
        null_content=False,
        cache_control=False,
        pdf=False,
        parallel_tool_calls=False,
        strict_schema=False,
    )
    return replace(draft, quirks=quirks)


STEPS: Final[tuple[Step, ...]] = (
    Step("system_messages", _on_body(_without_system_messages)),
    Step("betas", _without_betas),
    Step("thinking", _on_body(_without_thinking)),
    Step("block_types", _on_body(_with_known_blocks)),
    Step("media", _on_body(_without_media)),
    Step("tool_results", _on_body(_with_text_results)),
    Step("schemas", _on_body(_with_plain_schemas)),
    Step("tools", _on_body(_with_plain_tools)),
    Step("cache_marks", _on_body(_without_marks)),
    Step("parameters", _on_body(_without_parameters)),
    Step("structure", _with_plain_structure),
    Step("dialect", _with_plain_dialect),
)
"""In the order in which they are made: an earlier step makes work for a later one."""

NAMES: Final = tuple(step.name for step in STEPS)
