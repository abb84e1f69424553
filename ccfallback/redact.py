"""Keep secrets out of logs, errors and screens.

A key is a `Secret` from the moment it is read. Only `reveal()` returns its value.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from shlex import quote
from typing import Final

from ccfallback.messages.body import Body

_SECRET_HEADER: Final = re.compile(
    r"auth|api[-_]?key|token|cookie|secret|credential|password|signature", re.IGNORECASE
)
_KEY_LIKE: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|key|ccf)-[A-Za-z0-9_\-]{8,}|\beyJ[\w\-.]{20,}"
)
_OPAQUE: Final = re.compile(r"(?=\D*\d)[A-Za-z0-9_+=-]{20,}")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',}]{8,}")
_USER: Final = re.compile(r"(?<=//)[^/?#]*@")
_QUERY_ITEM: Final = re.compile(r"([?&;])([^=&;#]*)=([^&;#]*)")
_PLAIN_QUERY: Final = frozenset({"beta", "api-version"})
"""Query parameters whose value is never a secret."""

QUOTE: Final = 12
"""The length from which a run of equal letters counts as a quote."""

_MEMBER_NAME: Final = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")


class Secret:
    """A string that no `str`, `repr` or format shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def masked(self) -> str:
        """Enough to recognise the key, not enough to use it."""
        return mask(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def mask(value: str) -> str:
    """The first and last characters of a long key; nothing of a short one."""
    if len(value) < 16:
        return "***"
    return f"{value[:5]}…{value[-4:]}"


def is_secret_header(name: str) -> bool:
    """Whether the value of a header of that name may be a credential."""
    return _SECRET_HEADER.search(name) is not None


def mask_arguments(command: Sequence[str]) -> list[str]:
    """A program and its arguments, without those that may be a secret.

    Masked are: what looks like a key, what follows an option for a key, and every long word with a
    digit that cannot be a path.
    """
    shown: list[str] = []
    secret = False
    for argument in command:
        option, equals, value = argument.partition("=")
        if shown and (secret or _OPAQUE.fullmatch(argument)):
            shown.append(mask(argument))
        elif equals and is_secret_header(option):
            shown.append(f"{option}={mask(value)}")
        else:
            shown.append(scrub(argument))
        secret = argument.startswith("-") and not equals and is_secret_header(argument)
    return shown


def mask_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers without values that may be a credential."""
    return {
        name: mask(value) if is_secret_header(name) else scrub(value)
        for name, value in headers.items()
    }


def mask_url(url: str) -> str:
    """A URL without user, password and the values of its query: some gateways want keys there."""

    def hidden(item: re.Match[str]) -> str:
        lead, name, value = item.groups()
        return f"{lead}{name}={value if name in _PLAIN_QUERY or not value else '***'}"

    head, question, query = _USER.sub("***@", url).partition("?")
    return scrub(head) + _QUERY_ITEM.sub(hidden, question + query)


_SHOWN_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "content-type",
        "user-agent",
        "x-app",
    }
)
"""Headers that a curl command shows; the value of any other may be a secret."""


def debug_curl(
    url: str, headers: Sequence[tuple[bytes, bytes]], secrets: Iterable[str] = ()
) -> str:
    """A curl command with which a person can repeat a request, without its secrets.

    The body is left for the person to put into `request.json`.
    """
    parts = ["curl", "-sS", "-X", "POST", quote(scrub(mask_url(url), secrets))]
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        is_shown = name in _SHOWN_HEADERS and not is_secret_header(name)
        parts += ["-H", quote(f"{name}: {scrub(value, secrets) if is_shown else '***'}")]
    return " ".join([*parts, "--data-binary", "@request.json"])


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets and without anything that looks like a key."""
    # Longest first: a short secret may be the beginning of a long one.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return _BEARER.sub(r"\1 ***", _KEY_LIKE.sub("***", text))


def remove_quotes(text: str, body: Body) -> str:
    """`text` without its quotes from a conversation.

    A quote is a run of at least `QUOTE` letters that also occurs in the messages or in the system
    prompt; shorter runs are common words.
    """
    content = b"".join(body.member(key) for key in ("messages", "system"))
    # The name of a JSON member is not conversation, and most refusals are about one.
    names = [
        word.span()
        for word in _MEMBER_NAME.finditer(text)
        if b'"%s":' % word[0].encode() in content
    ]
    found = [
        start
        for start in range(len(text) - QUOTE + 1)
        if text[start : start + QUOTE].encode(errors="replace") in content
        and not any(low <= start and start + QUOTE <= high for low, high in names)
    ]
    kept, end = [], 0
    for start in found:
        if start >= end:
            kept.append(text[end:start] + "[…]")
        end = max(end, start + QUOTE)
    return "".join(kept) + text[end:]
