"""The form that a request wants its answer to have, and how to ask for it in words."""

from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.effort import CONFIG, without_empty_config
from ccfallback.messages.turns import blocks_of, text_block

SCHEMA_IN_WORDS: Final = "Answer with JSON that follows this schema, and with nothing else:\n"
"""What precedes the schema in the system prompt."""


def answer_schema(body: Body) -> dict[str, Any] | None:
    """The schema that the answer has to follow, from the current member or the older one."""
    config = body.get(CONFIG)
    newer = config.get("format") if isinstance(config, dict) else None
    for form in (newer, body.get("output_format")):
        if isinstance(form, dict) and isinstance(form.get("schema"), dict):
            schema: dict[str, Any] = form["schema"]
            return schema
    return None


def with_current_format(body: Body) -> Body:
    """The body with the older member `output_format`, if it has one, as `output_config.format`."""
    form = body.get("output_format")
    if form is None:
        return body
    config = body.get(CONFIG)
    made = {"format": form, **(config if isinstance(config, dict) else {})}
    return body.without("output_format").with_members(output_config=made)


def with_schema_in_words(body: Body) -> Body:
    """The body that asks for JSON of its schema in the system prompt, and with no member."""
    schema = answer_schema(body)
    if schema is None:
        return body
    words = text_block(SCHEMA_IN_WORDS + msgspec.json.encode(schema).decode())
    body = body.with_members(system=[*blocks_of(body.get("system")), words])
    config = body.get(CONFIG)
    if isinstance(config, dict) and "format" in config:
        rest = {key: value for key, value in config.items() if key != "format"}
        body = without_empty_config(body.with_members(output_config=rest))
    return body.without("output_format")
