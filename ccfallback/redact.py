"""Keep secrets out of sight.

A key is a `Secret` from the moment it is read; it shows itself only to `reveal()`, which is
called where a request is put together and nowhere else.
"""

import re
from collections.abc import Iterable, Sequence
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


QUOTE: Final = 12

_NAME: Final = re.compile(r"[a-z]+(?:_[a-z0-9]+)+")


class Secret:
    """A string that shows itself only when asked."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def masked(self) -> str:
        """Enough to recognise a key by, not enough to use it."""
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


def masked_arguments(command: Sequence[str]) -> list[str]:
    """A program and its arguments, without what may be a secret among them.

    That is what looks like a key, what follows an option for one, and any long word with digits
    in it that is no path: a program that prints a key is seldom asked for it with one.
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


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets and without anything that looks like a key."""
    # The longest first: a short one may be the beginning of a long one.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 4:
            text = text.replace(secret, "***")
    return _BEARER.sub(r"\1 ***", _KEY_LIKE.sub("***", text))


def without_quotes(text: str, body: Body) -> str:
    """`text` without what it quotes of a conversation.

    A quote is a run of `QUOTE` letters or more that stands in the messages or the system prompt
    as well; shorter ones are words that anybody may use.
    """
    content = b"".join(body.member(key) for key in ("messages", "system"))
    # The name of a member is none of the conversation, and what a refusal is mostly about.
    names = [word.span() for word in _NAME.finditer(text) if b'"%s":' % word[0].encode() in content]
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
