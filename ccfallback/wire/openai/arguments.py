"""The arguments of a call: what models write as a text is to be an object.

Nothing here fails: the client checks what a tool is called with, and tells the model.
"""

import re
from json import JSONDecoder
from typing import Any, Final

import msgspec

from ccfallback.messages.body import replace_lone_surrogates

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\],]', re.DOTALL)
_HALF_AN_ESCAPE: Final = re.compile(r"(?<!\\)(?:\\\\)*(\\(?:u[0-9a-fA-F]{0,3})?)$")
_CLOSERS: Final = {"{": "}", "[": "]"}


def _refuse(word: str) -> Any:
    raise ValueError(word)


_PREFIX: Final = JSONDecoder(parse_constant=_refuse)


def input_of(text: str, *, cut: bool = False) -> dict[str, Any] | msgspec.Raw:
    """The input of a tool for the arguments that a model wrote.

    What is an object stays as it was written. `cut` says that the answer was too long, so that
    the end may be missing.
    """
    if not text.strip():
        return {}
    value = _decoded(text)
    if isinstance(value, str):
        # Some relays encode twice.
        text = value
        if not text.strip():
            return {}
        value = _decoded(text)
    if isinstance(value, dict):
        return _as_written(text)
    if value is None:
        return {}
    if value is not _UNKNOWN:
        return {"input": value}
    if cut and text.lstrip().startswith("{"):
        completed = _completed(text)
        return {} if completed is None else _as_written(completed)
    found = _first_object(text)
    return {"_raw_arguments": _plain(text)} if found is None else _as_written(found)


def is_object(text: str) -> bool:
    """Whether arguments are an object, and so whole."""
    return text.rstrip().endswith("}") and isinstance(_decoded(text), dict)


class _Unknown:
    """No JSON."""


_UNKNOWN: Final = _Unknown()


def _decoded(text: str) -> Any:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return _UNKNOWN
    try:
        return msgspec.json.decode(raw)
    except _UNREADABLE:
        pass
    try:
        return msgspec.json.decode(replace_lone_surrogates(raw))
    except _UNREADABLE:
        return _UNKNOWN


def _as_written(text: str) -> msgspec.Raw:
    raw = text.strip().encode()
    try:
        msgspec.json.decode(raw)
    except _UNREADABLE:
        raw = replace_lone_surrogates(raw)
    return msgspec.Raw(raw)


def _plain(text: str) -> str:
    return text.encode(errors="replace").decode()


def _first_object(text: str) -> str | None:
    """The object that a text begins with; the second of two, if the first is empty."""
    first, rest = _prefix(text.lstrip())
    if first == "{}":
        second, _ = _prefix(rest.lstrip())
        return second or first
    return first


def _prefix(text: str) -> tuple[str | None, str]:
    if not text.startswith("{"):
        return None, text
    try:
        _, end = _PREFIX.raw_decode(text)
    except (ValueError, RecursionError):
        return None, text
    found = text[:end]
    return (found, text[end:]) if isinstance(_decoded(found), dict) else (None, text)


def _completed(text: str) -> str | None:
    """An object that was cut, with what is open closed; `None` where that gives no object."""
    closers: list[str] = []
    last_whole = 0
    in_string = False
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "{" | "[" as opener:
                closers.append(_CLOSERS[opener])
                last_whole = token.end()
            case "}" | "]":
                if closers:
                    closers.pop()
            case ",":
                last_whole = token.start()
            case '"':
                in_string = True
                break
            case _:
                pass
    end = "".join(reversed(closers))
    whole = text[:last_whole]
    if in_string:
        text = _HALF_AN_ESCAPE.sub(lambda match: match[0][: -len(match[1])], text) + '"'
    if text.rstrip().endswith(":"):
        text += "null"
    for attempt in (text, whole):
        if isinstance(_decoded(attempt + end), dict):
            return attempt + end
    return None
