"""Ids of calls, as each side demands them: the same for the same input, without any memory."""

import re
from typing import Final

from ccfallback.messages.tools import BAD_LETTER, alphanumerics

_MAX_ID: Final = 40
"""OpenAI's limit was 40 and became 64; others kept the old one."""

_CLIENT_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,256}")
_MISTRAL_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")


def provider_tool_id(tool_id: str, style: str) -> str:
    """A call's id as the provider takes it: the same for the call and for its result."""
    if style == "mistral":
        return tool_id if _MISTRAL_ID.fullmatch(tool_id) else alphanumerics(tool_id, 9)
    if style == "short" and len(tool_id) > _MAX_ID:
        return f"call_{alphanumerics(tool_id, 24)}"
    return tool_id


def client_tool_id(raw: object, taken: set[str], seed: str) -> str:
    """A provider's id for a call as the client takes it; it is added to `taken`.

    `seed` makes ids that have to be invented differ between two answers.
    """
    given = raw if isinstance(raw, str) else ""
    tool_id = given if _CLIENT_ID.fullmatch(given) else BAD_LETTER.sub("_", given)[:256]
    count = len(taken)
    while not tool_id or tool_id in taken:
        tool_id = "toolu_" + alphanumerics(f"{seed}\n{given}\n{count}", 24)
        count += 1
    taken.add(tool_id)
    return tool_id
