"""Checks of configuration values: each returns what the value means, or raises `Expected`."""

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network
from pathlib import PurePath
from typing import Any, Final, TypeGuard, TypeVar
from urllib.parse import parse_qs, urlsplit

from ccfallback.addresses import is_host
from ccfallback.messages.reset_hints import duration
from ccfallback.printable import printable
from ccfallback.redact import Secret, is_masked, is_secret_header, scrub_misplaced

T = TypeVar("T")

Check = Callable[[Any], T]
"""Takes a value as TOML gave it and returns its meaning. Raises `Expected`."""

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
PER_REQUEST_HEADERS: Final = frozenset({
    "host", "content-length", "content-encoding", "accept-encoding", "transfer-encoding",
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect", "via",
})  # fmt: skip
"""Headers that describe one body or one connection, so that a configuration cannot set them."""

_UNSAFE_TEXT: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_ASSIGNMENT: Final = re.compile(
    r"(?:(?:export|set|setenv|\$env:)\s*[A-Za-z_]\w*\s*=|[A-Z][A-Z0-9]*_[A-Z0-9_]*\s*=)\s*(?=[^\s=])"
)
"""The start of a line that sets a variable, as shells and `.env` files have it. A name in capitals
with an underscore tells it from a key that ends in `=`."""


class Expected(Exception):
    """A value is wrong; says what is expected.

    With `hide` the value may hold a secret. `found` says what is wrong in it, if that is a part.
    """

    def __init__(self, expected: str, *, hide: bool = False, found: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.found = found or ("a value" if hide else "")


def describe(value: Any) -> str:
    """A value as an error message shows it: a short value itself, otherwise its type.

    What may be a key is masked: keys are pasted into wrong places.
    """
    match value:
        case bool():
            return str(value).lower()
        case str():
            shown = printable(scrub_misplaced(value), "\ufffd")
            short = shown if len(shown) <= 60 else shown[:57] + "…"
            return f'"{short}"'
        case int() | float():
            return str(value)
        case Mapping():
            return "a table"
        case list():
            return "an array"
        case _:
            return f"a {type(value).__name__}"


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


def number(low: float, high: float, expected: str) -> Check[float]:
    """A number within bounds."""

    def check(value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise Expected(expected)
        return float(value)

    return check


def seconds(low: float, high: float) -> Check[float]:
    """A number of seconds within bounds."""
    return number(low, high, f"a number of seconds from {low:.15g} to {high:.15g}")


share: Final = number(0, 1, "a number from 0 to 1, such as 0.9")
"""A share of a whole."""
dollars: Final = number(0, 1_000_000, "an amount of US dollars from 0 to 1000000")
"""An amount of US dollars."""


def period(value: Any) -> str:
    """A time such as 24h, of ten minutes to 31 days."""
    length = duration(value) if isinstance(value, str) else None
    if length is None or not 600 <= length <= 31 * 86400:
        raise Expected('a time from "10m" to "744h", such as "24h"')
    return str(value).strip()


def table(value: Any) -> Mapping[str, Any]:
    """A table with any content."""
    if not isinstance(value, Mapping):
        raise Expected("a table")
    return dict(value)


def text(value: Any) -> str:
    """Any text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise Expected("a text that is not empty")
    return value


def host(value: Any) -> str:
    """A host name or an IP address."""
    if not isinstance(value, str) or not is_host(value):
        raise Expected("a host name or an IP address")
    return value


def networks(value: Any) -> tuple[str, ...]:
    """A list of IP addresses and networks."""
    try:
        found = texts(value)
        for each in found:
            ip_network(each, strict=False)
    except (Expected, ValueError):
        raise Expected('a list of IP addresses and networks, such as ["10.0.0.0/8"]') from None
    return found


def note(value: Any) -> str:
    """Any text on one line, the empty one included."""
    if not isinstance(value, str) or _UNSAFE_TEXT.search(value):
        raise Expected("a text on one line")
    return value


def pattern(form: str, expected: str, *, hide: bool = False) -> Check[str]:
    """A text that matches the whole pattern."""
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


def choices(names: Iterable[str]) -> Check[tuple[str, ...]]:
    """A list of some of the names."""
    allowed = tuple(names)

    def check(value: Any) -> tuple[str, ...]:
        wanted = "a list of any of " + ", ".join(f'"{name}"' for name in allowed)
        return _list_of(value, lambda item: item in allowed, wanted)

    return check


def one_of(meanings: Mapping[str, T]) -> Check[T]:
    """One of the names, for what it means."""
    named = choice(meanings)
    return lambda value: meanings[named(value)]


provider_name: Final = pattern(
    r"[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, dots, underscores or hyphens"
)
region: Final = pattern(
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "the name of a region, such as eu-central-1"
)
"""A region or location of a cloud, which becomes part of a host name."""
project: Final = pattern(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,127}", "the ID of a Google Cloud project")
variable_name: Final = pattern(
    r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable", hide=True
)


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    return _list_of(value, lambda item: isinstance(item, str) and item != "", "a list of texts")


def _list_of(value: Any, accepts: Callable[[Any], bool], wanted: str) -> tuple[Any, ...]:
    """A list whose items are all accepted; the error names the first one that is not."""
    if not isinstance(value, list):
        raise Expected(wanted)
    for item in value:
        if not accepts(item):
            raise Expected(wanted, found=f"{describe(item)} in it")
    return tuple(value)


def names(value: Any) -> tuple[str, ...]:
    """A list of different names."""
    wanted = 'a list of different names, such as ["anthropic-primary", "spare"]'
    if not isinstance(value, list) or not value:
        raise Expected(wanted)
    if not all(isinstance(item, str) and item for item in value) or len(set(value)) < len(value):
        raise Expected(wanted)
    return tuple(value)


def command(value: Any) -> tuple[str, ...]:
    """A program and its arguments."""
    if not isinstance(value, list) or not value or not all(isinstance(a, str) for a in value):
        wanted = 'a program and its arguments, such as ["pass", "show", "openrouter"]'
        raise Expected(wanted, hide=True)
    if not value[0]:
        raise Expected("the name of a program first")
    return tuple(value)


def text_map(value: Any) -> Mapping[str, str]:
    """A table of texts."""
    if not isinstance(value, Mapping):
        raise Expected("a table of texts")
    for key, item in value.items():
        if not key or not isinstance(item, str) or not item:
            found = f"{describe(item)} for {describe(key)}"
            raise Expected("a table of texts that are not empty", found=found)
    return dict(value)


def header_map(value: Any) -> Mapping[str, str]:
    """A table of header names and values, safe to put on the wire."""
    if not isinstance(value, Mapping):
        raise Expected("a table of header names and values", hide=True)
    for name, item in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise Expected("header names made of letters, digits and hyphens", hide=True)
        if name.lower() in PER_REQUEST_HEADERS:
            raise Expected(f"no {name}: ccfallback sets it for each request", hide=True)
        if isinstance(item, str) and is_secret_header(name) and is_masked(item):
            raise Expected(f"the whole value of {scrub_misplaced(name)}", found="a masked key")
        if not isinstance(item, str) or not is_header_value(item):
            raise Expected(
                f"the value of {scrub_misplaced(name)} to be Latin-1 text without control "
                "characters",
                hide=True,
            )
    return dict(value)


def header_name(value: Any) -> str:
    """The name of a header. The error does not show the value: it may be a whole header."""
    if not isinstance(value, str) or not _HEADER_NAME.fullmatch(value):
        raise Expected("the name of a header", hide=True)
    return value


def is_header_value(value: str) -> bool:
    """Whether a text can be the value of a header without starting another one."""
    return _UNSAFE_TEXT.search(value) is None and all(ord(letter) < 256 for letter in value)


def key_text(value: Any) -> str:
    """A key: one line that can be the value of a header. The error never shows it."""
    found = clean_key(value) if isinstance(value, str) else ""
    if is_masked(found):
        raise Expected("the whole key", found="a masked key")
    if not found or not is_header_value(value):
        empty = "an empty text" if value == "" else ""
        raise Expected("a key: one line of text", hide=True, found=empty)
    return found


def clean_key(text: str) -> str:
    """A key as it was pasted, without blanks, `export NAME=` and quotes around it."""
    text = _ASSIGNMENT.sub("", text.strip()).rstrip(";").strip()
    while len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1].strip()
    return text


def secret(value: Any) -> Secret:
    """A key, kept out of sight."""
    return Secret(key_text(value))


def _is_one_word(value: Any) -> TypeGuard[str]:
    """Whether a value is one word that a header may hold: `urlsplit` would remove line breaks."""
    return isinstance(value, str) and is_header_value(value) and len(value.split()) == 1


def http_url(value: Any) -> str:
    """An http or https URL with a host and without credentials."""
    wanted = "an http:// or https:// URL"
    # Even a malformed URL may hold a real password, or a real key in its query.
    hide = isinstance(value, str) and any(sign in value for sign in "@?")
    if not _is_one_word(value):
        is_broken = isinstance(value, str) and bool(value.strip())
        raise Expected(f"{wanted} without a space in it" if is_broken else wanted, hide=hide)
    url = value.strip()
    try:
        parts = urlsplit(url)
        host, scheme = parts.hostname, parts.scheme
    except ValueError:
        raise Expected(wanted, hide=hide) from None
    try:
        _ = parts.port
    except ValueError:
        raise Expected(f"{wanted} with a port from 1 to 65535", hide=hide) from None
    if scheme in ("http", "https") and not host:
        raise Expected(f"{wanted} with a host", hide=hide)
    if parts.username is not None or parts.password is not None:
        raise Expected(f"{wanted} without a name or password in it", hide=True)
    if parts.scheme not in ("http", "https") or not host:
        raise Expected(wanted, hide=hide)
    if parts.fragment:
        raise Expected(f"{wanted} without a #fragment", hide=hide)
    return url


MOST_KEYS: Final = 32
"""Keys of one provider; the breaker keeps a state for each."""


def secrets(value: Any) -> tuple[Secret, ...]:
    """A list of different keys."""
    return tuple(map(Secret, _different(value, key_text, "a list of keys")))


def variable_names(value: Any) -> str | tuple[str, ...]:
    """The name of an environment variable, or a list of different names."""
    if isinstance(value, list):
        return _different(value, variable_name, "a list of names of environment variables")
    return variable_name(value)


def _different(value: Any, check: Check[str], wanted: str) -> tuple[str, ...]:
    """A list whose items pass a check, and differ. The error never shows them."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_KEYS:
        raise Expected(f"{wanted}, 1 to {MOST_KEYS}", hide=True)
    found = tuple(check(item) for item in value)
    if len(set(found)) < len(found):
        raise Expected(f"{wanted} without one twice", hide=True)
    return found


def proxy_url(value: Any) -> str:
    """The URL of an HTTP or SOCKS proxy; `socks://` means `socks5://`."""
    wanted = "an http://, https://, socks5:// or socks5h:// URL"
    if not _is_one_word(value):
        raise Expected(wanted, hide=True)
    url = value.strip()
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Expected(wanted, hide=True) from None
    is_known = parts.scheme in ("http", "https", "socks", "socks5", "socks5h")
    if not is_known or not host or port == 0:
        raise Expected(wanted, hide=True)
    return f"socks5{url[len('socks') :]}" if parts.scheme == "socks" else url


_STATE_QUERY: Final = frozenset(
    {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
)


def state_url(value: Any) -> str:
    """The URL of a Redis or Valkey server, or an empty text."""
    wanted = "redis://HOST:PORT/NUMBER or rediss://HOST:PORT/NUMBER"
    if value == "":
        return ""
    if not _is_one_word(value):
        raise Expected(wanted, hide=True)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Expected(wanted, hide=True) from None
    database = parts.path.strip("/")
    if (
        parts.scheme not in ("redis", "rediss")
        or not host
        or port == 0
        or not (database == "" or (database.isascii() and database.isdigit()))
        or not _STATE_QUERY.issuperset(parse_qs(parts.query, keep_blank_values=True))
        or parts.fragment
    ):
        raise Expected(wanted, hide=True)
    return value


def file_path(value: Any) -> str:
    """The path of a file, independent of the working directory."""
    if isinstance(value, str) and not _UNSAFE_TEXT.search(value):
        path = PurePath(value)
        if path.is_absolute() or path.parts[:1] == ("~",):
            return value
    raise Expected("an absolute path, or one that begins with ~/")


_STATUS: Final = re.compile(r"([45])(xx|\d\d)", re.IGNORECASE)


def statuses(value: Any) -> frozenset[int]:
    """A list of statuses and status classes, such as ["429", "5xx"]."""
    wanted = 'a list of statuses from 400 to 599 or classes, such as ["429", "5xx"]'
    found: set[int] = set()
    for item in _list_of(value, lambda item: _STATUS.fullmatch(str(item)) is not None, wanted):
        hundred, rest = int(str(item)[0]) * 100, str(item)[1:].lower()
        found.update(range(hundred, hundred + 100) if rest == "xx" else (hundred + int(rest),))
    return frozenset(found)
