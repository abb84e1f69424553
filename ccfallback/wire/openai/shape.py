"""What every answer to a client has, whole or in a stream: ids, model, and how much thinking."""

from collections.abc import Mapping
from enum import Enum
from hashlib import sha256
from typing import Any, Final

import msgspec

from ccfallback.messages.body import Body
from ccfallback.messages.tools import ToolNames
from ccfallback.wire.openai.names import client_tool_id
from ccfallback.wire.openai.usage import NOTHING_YET

_TAIL: Final = 4096


class Thinking(Enum):
    """What the client wants to see of the model's thinking."""

    SHOWN = "shown"
    OMITTED = "omitted"
    """Blocks without their text."""
    NONE = "none"


def thinking_wanted(asked: Body) -> Thinking:
    """As the client asked for it; who does not ask may not know what to do with it."""
    thinking = asked.get("thinking")
    if not isinstance(thinking, Mapping) or thinking.get("type") in (None, "disabled"):
        return Thinking.NONE
    return Thinking.OMITTED if thinking.get("display") == "omitted" else Thinking.SHOWN


class Shape:
    """Says who an answer is from and what its calls are named, for one client's body."""

    __slots__ = ("_asked", "_names", "_seed", "_taken")

    def __init__(self, asked: Body, upstream_id: str | None) -> None:
        self._asked = asked
        # Some upstreams always give the same id, but no two requests end the same.
        tail = asked.raw[-_TAIL:]
        given = (upstream_id or "").encode(errors="replace")
        self._seed = sha256(b"%b %d %b" % (given, len(asked.raw), tail)).hexdigest()
        self._names: ToolNames | None = None
        self._taken: set[str] = set()

    def message(self) -> dict[str, Any]:
        """The message with nothing in it yet."""
        return {
            "id": f"msg_{self._seed[:24]}",
            "type": "message",
            "role": "assistant",
            # Claude Code goes by the name that it asked for: its window, its price.
            "model": self._asked.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": dict(NOTHING_YET),
        }

    def tool_name(self, name: str) -> str:
        """The client's name of a tool."""
        if self._names is None:
            self._names = ToolNames.of(self._asked)
        return self._names.to_client(name)

    def tool_id(self, given: str | None) -> str:
        """A call's id that neither this answer nor the conversation has."""
        tool_id = client_tool_id(given, self._taken, self._seed)
        if msgspec.json.encode(tool_id) in self._asked.raw:
            tool_id = client_tool_id(given, self._taken, self._seed)
        return tool_id


def size(text: str) -> int:
    """Bytes of a text in JSON, the same however it is cut."""
    return len(msgspec.json.encode(text)) - 2
