"""Names of tools and ids of calls, as each side demands them.

Nothing is remembered between two requests: a name or an id is the same for the same input, and
what has to be translated back is read off the request's own list of tools.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from ccfallback.core.body import Body

_MAX_NAME: Final = 64
_MAX_ID: Final = 40
"""OpenAI's limit was 40 and became 64; others kept the old one."""

_BAD_LETTER: Final = re.compile(r"[^a-zA-Z0-9_-]")
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_CLIENT_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,256}")
_MISTRAL_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")

_ALPHANUMERICS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class ToolNames:
    """The client's names of tools and the provider's, of one request."""

    __slots__ = ("_to_client", "_to_provider")

    def __init__(self, names: Iterable[str]) -> None:
        distinct = dict.fromkeys(names)
        # Who needs no other name keeps his own, even if somebody before him would fit it.
        self._to_client = {name: name for name in distinct if _NAME.fullmatch(name)}
        self._to_provider = dict(self._to_client)
        for name in distinct:
            if name not in self._to_provider:
                fitting = _fitting(name, self._to_client)
                self._to_provider[name] = fitting
                self._to_client[fitting] = name

    @classmethod
    def of(cls, body: Body) -> "ToolNames":
        """The names that the tools of a client's request have."""
        return cls(_declared(body))

    def to_provider(self, name: str) -> str:
        """A name that every provider takes."""
        known = self._to_provider.get(name)
        # A call in the history may be of a tool that is no longer there.
        return known if known is not None else _fitting(name, self._to_client)

    def to_client(self, name: str) -> str:
        """The client's name for it; itself where the client has no such tool."""
        return self._to_client.get(name, name)


def _fitting(name: str, taken: Mapping[str, str]) -> str:
    """A valid name for `name` that nobody else has."""
    plain = _BAD_LETTER.sub("_", name) or "unnamed"
    if not plain[0].isalpha() and plain[0] != "_":
        # Moonshot and Gemini refuse names that begin with a digit.
        plain = f"t_{plain}"
    if len(plain) <= _MAX_NAME and plain not in taken:
        return plain
    digest = _digest(name)
    for size in range(8, 64, 8):
        fitting = f"{plain[: _MAX_NAME - 1 - size]}_{digest[:size]}"
        if fitting not in taken:
            return fitting
    return f"_{digest[:63]}"


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


def provider_tool_id(tool_id: str, style: str) -> str:
    """A call's id as the provider takes it: the same for the call and for its result."""
    if style == "mistral":
        return tool_id if _MISTRAL_ID.fullmatch(tool_id) else _alphanumerics(tool_id, 9)
    if style == "short" and len(tool_id) > _MAX_ID:
        return f"call_{_alphanumerics(tool_id, 24)}"
    return tool_id


def client_tool_id(raw: object, taken: set[str], seed: str) -> str:
    """A provider's id for a call as the client takes it; it is added to `taken`.

    `seed` makes ids that have to be invented differ between two answers.
    """
    given = raw if isinstance(raw, str) else ""
    tool_id = given if _CLIENT_ID.fullmatch(given) else _BAD_LETTER.sub("_", given)[:256]
    count = len(taken)
    while not tool_id or tool_id in taken:
        tool_id = "toolu_" + _alphanumerics(f"{seed}\n{given}\n{count}", 24)
        count += 1
    taken.add(tool_id)
    return tool_id


def _alphanumerics(text: str, size: int) -> str:
    number = int(_digest(text), 16)
    letters: list[str] = []
    for _ in range(size):
        number, index = divmod(number, len(_ALPHANUMERICS))
        letters.append(_ALPHANUMERICS[index])
    return "".join(letters)


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()
