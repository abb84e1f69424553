"""What Claude Code says about a request in its headers.

It sends a session's id always, and with `CLAUDE_CODE_GATEWAY_HINT_HEADERS=1`, which `run` and `env`
set, also a request's class and the type of its agent. The primary gets these headers, no fallback
does.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final

import msgspec

from ccfallback.config.model import CLASSES

SESSION: Final = b"x-claude-code-session-id"
AGENT_ID: Final = b"x-claude-code-agent-id"
CLASS: Final = b"x-claude-code-request-class"
AGENT_TYPE: Final = b"x-claude-code-agent-type"
COMPACTED: Final = b"x-claude-code-context-compacted"

_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_TOO_LONG: Final = 129
_TYPE: Final = re.compile(rb"[A-Za-z0-9._:@/-]{1,64}")
_CLASSES: Final = frozenset(name.encode() for name in CLASSES)

HASH_LENGTH: Final = 12
"""Hexadecimal digits: enough to tell apart all sessions of a log."""


class Hints(msgspec.Struct, frozen=True):
    """What a request's headers say of it. A value that is missing or malformed is empty."""

    session: str = ""
    """A hash of the session's id."""
    conversation: str = ""
    """A hash of the session's id and its agent's: each agent has a conversation of its own."""
    request_class: str = ""
    agent: str = ""
    """The type of the agent."""
    compacted: bytes = b""
    """What the client says of a compaction; its next compaction says something else."""


NO_HINTS: Final = Hints()


def read_hints(headers: Mapping[bytes, bytes]) -> Hints:
    """Read the hints from the first value of each header."""
    session, request_class = headers.get(SESSION, b""), headers.get(CLASS, b"")
    if not session and not request_class:
        return NO_HINTS
    agent_id, agent = headers.get(AGENT_ID, b""), headers.get(AGENT_TYPE, b"")
    # A longer value is malformed however long it is; a cache keeps what it is called with.
    return _hints(
        session[:_TOO_LONG],
        agent_id[:_TOO_LONG],
        request_class[:_TOO_LONG],
        agent[:_TOO_LONG],
        headers.get(COMPACTED, b"")[:128],
    )


@lru_cache(maxsize=1024)
def _hints(
    session: bytes, agent_id: bytes, request_class: bytes, agent: bytes, compacted: bytes
) -> Hints:
    has_session = _ID.fullmatch(session) is not None
    has_agent = has_session and _ID.fullmatch(agent_id) is not None
    own = _hash(session) if has_session else ""
    return Hints(
        session=own,
        conversation=_hash(session + b"\n" + agent_id) if has_agent else own,
        request_class=request_class.decode() if request_class in _CLASSES else "",
        agent=agent.decode() if _TYPE.fullmatch(agent) else "",
        compacted=compacted,
    )


def _hash(value: bytes) -> str:
    return sha256(value).hexdigest()[:HASH_LENGTH]
