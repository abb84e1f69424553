"""Names of tools and ids of calls, made to fit whoever is strict about them.

Nothing is remembered between two requests: the same input gives the same name, and what has to be
translated back is read off the request's own list of tools.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from ccfallback.messages.body import Body

LONGEST_NAME: Final = 64
"""What everybody takes."""

BAD_LETTER: Final = re.compile(r"[^a-zA-Z0-9_-]")
"""What no name and no id may hold."""

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]*")
_ALPHANUMERICS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class ToolNames:
    """The client's names of tools and the provider's, of one request."""

    __slots__ = ("_longest", "_to_client", "_to_provider")

    def __init__(self, names: Iterable[str], longest: int = LONGEST_NAME) -> None:
        self._longest = longest
        distinct = dict.fromkeys(names)
        # Who needs no other name keeps his own, even if somebody before him would fit it.
        self._to_client = {name: name for name in distinct if self._is_valid(name)}
        self._to_provider = dict(self._to_client)
        for name in distinct:
            if name not in self._to_provider:
                fitting = self._fitting(name)
                self._to_provider[name] = fitting
                self._to_client[fitting] = name

    @classmethod
    def of(cls, body: Body, longest: int = LONGEST_NAME) -> "ToolNames":
        """The names that the tools of a client's request have."""
        return cls(_declared(body), longest)

    def to_provider(self, name: str) -> str:
        """A name that every provider takes."""
        known = self._to_provider.get(name)
        # A call in the history may be of a tool that is no longer there.
        return known if known is not None else self._fitting(name)

    def to_client(self, name: str) -> str:
        """The client's name for it; itself where the client has no such tool."""
        return self._to_client.get(name, name)

    def _is_valid(self, name: str) -> bool:
        return len(name) <= self._longest and _NAME.fullmatch(name) is not None

    def _fitting(self, name: str) -> str:
        """A valid name for `name` that nobody else has."""
        taken, longest = self._to_client, self._longest
        plain = BAD_LETTER.sub("_", name) or "unnamed"
        if not plain[0].isalpha() and plain[0] != "_":
            # Moonshot and Gemini refuse names that begin with a digit.
            plain = f"t_{plain}"
        if len(plain) <= longest and plain not in taken:
            return plain
        hashed = digest(name)
        for size in range(8, longest, 8):
            fitting = f"{plain[: longest - 1 - size]}_{hashed[:size]}"
            if fitting not in taken:
                return fitting
        return f"_{hashed[: longest - 1]}"


def _declared(body: Body) -> Iterable[str]:
    """The names of all tools that a request brings, those added on the way included."""
    for tool in _objects(body.get("tools")):
        yield from _name(tool)
    for message in _objects(body.get("messages")):
        if message.get("role") == "system":
            for block in _objects(message.get("content")):
                added = block.get("tool") if block.get("type") == "tool_addition" else None
                if isinstance(added, dict):
                    definition = added.get("definition")
                    yield from _name(definition if isinstance(definition, dict) else added)


def _objects(value: object) -> Iterable[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _name(tool: Mapping[str, Any]) -> Iterable[str]:
    name = tool.get("name")
    return (name,) if isinstance(name, str) and name else ()


def alphanumerics(text: str, size: int) -> str:
    """So many letters and digits, the same for the same text."""
    number = int(digest(text), 16)
    letters: list[str] = []
    for _ in range(size):
        number, index = divmod(number, len(_ALPHANUMERICS))
        letters.append(_ALPHANUMERICS[index])
    return "".join(letters)


def digest(text: str) -> str:
    """64 hexadecimal digits, the same for the same text."""
    return sha256(text.encode(errors="surrogatepass")).hexdigest()
