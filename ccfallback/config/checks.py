"""Small readers of configuration values: each returns what a value means, or says what it wanted.

`Reader` walks one table, collects every fault instead of stopping at the first, and refuses keys
that nobody asked for.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ccfallback.errors import ConfigFault
from ccfallback.suggest import closest

T = TypeVar("T")

Check = Callable[[Any], T]
"""Takes a value as TOML gave it; raises `Expected` when it is not what it should be."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
OF_THE_CONNECTION = frozenset(
    {
        "host",
        "content-length",
        "content-encoding",
        "accept-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "via",
    }
)
"""Headers that describe the body or the connection, which a configuration can't know."""

_UNSAFE_TEXT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Expected(Exception):
    """What a value should have been."""

    def __init__(self, expected: str, *, hide: bool = False) -> None:
        super().__init__(expected)
        self.expected = expected
        self.hide = hide


def describe(value: Any) -> str:
    """A value as an error message shows it: short, and with its kind."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{printable(value if len(value) <= 60 else value[:57] + "…")}"'
        case int() | float():
            return str(value)
        case Mapping():
            return "a table"
        case list():
            return "an array"
        case _:
            return f"a {type(value).__name__}"


def printable(text: str) -> str:
    """A text on one line, without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


class Reader:
    """Reads the keys of one table."""

    def __init__(self, table: Any, path: str, faults: list[ConfigFault]) -> None:
        self.path = path
        self.faults = faults
        self._known: list[str] = []
        if isinstance(table, Mapping):
            self.table: Mapping[str, Any] = table
        else:
            self.table = {}
            # Never the value itself: where a table belongs, a bare token may have been put.
            self.fault("", "a text" if isinstance(table, str) else describe(table), "a table")

    def fault(self, key: str, found: str, expected: str) -> None:
        """Note that `key` is wrong."""
        path = f"{self.path}.{key}" if self.path and key else self.path or key
        self.faults.append(ConfigFault(printable(path), found, expected))

    def get(self, key: str, check: Check[T], default: T) -> T:
        """What `key` says, or `default` where it says nothing or something wrong."""
        self._known.append(key)
        if key not in self.table:
            return default
        value = self.table[key]
        try:
            return check(value)
        except Expected as wrong:
            self.fault(key, "a value" if wrong.hide else describe(value), wrong.expected)
            return default

    def section(self, key: str) -> "Reader":
        """The reader of a table below this one, empty where there is none."""
        self._known.append(key)
        path = f"{self.path}.{key}" if self.path else key
        return Reader(self.table.get(key, {}), path, self.faults)

    def finish(self) -> None:
        """Refuse every key that was not asked for."""
        for key in self.table:
            if key not in self._known:
                close = closest(key, self._known)
                wanted = close or "one of " + ", ".join(sorted(self._known))
                self.fault(key, "an unknown key", wanted)


def boolean(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise Expected("true or false")
    return value


def integer(low: int, high: int) -> Check[int]:
    """A whole number within bounds."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Expected(f"a whole number from {low} to {high}")
        return value

    return check


def seconds(low: float, high: float) -> Check[float]:
    """A number of seconds within bounds."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Expected(f"a number of seconds from {low:g} to {high:g}")
        if not low <= value <= high:
            raise Expected(f"a number of seconds from {low:g} to {high:g}")
        return float(value)

    return check


def text(value: Any) -> str:
    """Any text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise Expected("a text that is not empty")
    return value


def note(value: Any) -> str:
    """Any text on one line, the empty one included."""
    if not isinstance(value, str) or _UNSAFE_TEXT.search(value):
        raise Expected("a text on one line")
    return value


def pattern(form: str, expected: str, *, hide: bool = False) -> Check[str]:
    """A text of that form, whole."""
    compiled = re.compile(form)

    def check(value: Any) -> str:
        if isinstance(value, str) and compiled.fullmatch(value):
            return value
        raise Expected(expected, hide=hide)

    return check


def choice(names: Iterable[str]) -> Check[str]:
    """One of the names."""
    allowed = tuple(names)

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise Expected("one of " + ", ".join(f'"{name}"' for name in allowed))
        return value

    return check


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise Expected("a list of texts")
    return tuple(value)


def command(value: Any) -> tuple[str, ...]:
    """A program and its arguments."""
    if not isinstance(value, list) or not value or not all(isinstance(a, str) for a in value):
        wanted = 'a program and its arguments, such as ["pass", "show", "openrouter"]'
        raise Expected(wanted, hide=True)
    if not value[0]:
        raise Expected("a program in the first place")
    return tuple(value)


def text_map(value: Any) -> Mapping[str, str]:
    """A table of texts."""
    if not isinstance(value, Mapping) or not all(
        key and isinstance(item, str) and item for key, item in value.items()
    ):
        raise Expected("a table of texts")
    return dict(value)


def header_map(value: Any) -> Mapping[str, str]:
    """A table of header names and values, safe to put on the wire."""
    if not isinstance(value, Mapping):
        raise Expected("a table of header names and values", hide=True)
    for name, item in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise Expected("header names made of letters, digits and hyphens", hide=True)
        if name.lower() in OF_THE_CONNECTION:
            raise Expected(f"no {name}: it is made for each request", hide=True)
        if not isinstance(item, str) or not is_header_value(item):
            raise Expected(
                f"the value of {name} to be a text without control characters, in Latin letters",
                hide=True,
            )
    return dict(value)


def header_name(value: Any) -> str:
    """The name of a header. Not shown in the error: some put the whole header there."""
    if not isinstance(value, str) or not _HEADER_NAME.fullmatch(value):
        raise Expected("the name of a header", hide=True)
    return value


def is_header_value(value: str) -> bool:
    """Whether a text can be a header's value without starting another header."""
    return _UNSAFE_TEXT.search(value) is None and all(ord(letter) < 256 for letter in value)


def key_text(value: Any) -> str:
    """A key: one line that can be a header's value. Never shown in the error."""
    if not isinstance(value, str) or not value.strip() or not is_header_value(value):
        raise Expected("a key: one line of text", hide=True)
    return value.strip()


def http_url(value: Any) -> str:
    """An http or https URL of a host, without credentials in it."""
    wanted = "an http:// or https:// URL"
    # A name, a password or a key in the query may be all that is right with it.
    hide = isinstance(value, str) and any(sign in value for sign in "@?")
    if not isinstance(value, str) or not is_header_value(value) or len(value.split()) != 1:
        raise Expected(wanted, hide=hide)
    url = value.strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Expected(wanted, hide=hide) from None
    if parts.username is not None or parts.password is not None:
        raise Expected(f"{wanted} without a name or password in it", hide=True)
    if parts.scheme not in ("http", "https") or not host:
        raise Expected(wanted, hide=hide)
    if parts.fragment:
        raise Expected(f"{wanted} without a #fragment", hide=hide)
    return url


def proxy_url(value: Any) -> str:
    """The URL of an HTTP or SOCKS proxy."""
    wanted = "an http://, https://, socks5:// or socks5h:// URL"
    if not isinstance(value, str):
        raise Expected(wanted, hide=True)
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Expected(wanted, hide=True) from None
    if parts.scheme not in ("http", "https", "socks5", "socks5h") or not host:
        raise Expected(wanted, hide=True)
    # `urlsplit` takes line breaks out of a URL without a word.
    if not is_header_value(value) or len(value.split()) != 1:
        raise Expected(wanted, hide=True)
    return value.strip()


_STATUS = re.compile(r"([45])(xx|\d\d)", re.IGNORECASE)


def statuses(value: Any) -> frozenset[int]:
    """A list of statuses and classes of them, such as ["429", "5xx"]."""
    wanted = 'a list of statuses from 400 to 599 or classes, such as ["429", "5xx"]'
    if not isinstance(value, list):
        raise Expected(wanted)
    found: set[int] = set()
    for item in value:
        match = _STATUS.fullmatch(str(item))
        if isinstance(item, bool) or match is None:
            raise Expected(wanted)
        hundred, rest = int(match[1]) * 100, match[2].lower()
        found.update(range(hundred, hundred + 100) if rest == "xx" else (hundred + int(rest),))
    return frozenset(found)
