"""Keep secrets out of logs, errors and screens.

A key is a `Secret` from the moment it is read. Only `reveal()` returns its value.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from shlex import quote
from typing import Final
from urllib.parse import unquote

from ccfallback import quotes
from ccfallback.messages.patterns import has_any, lazy_re

_SECRET_HEADER: Final = lazy_re(
    r"auth|api[-_]?key|token|cookie|secret|credential|password|signature", re.IGNORECASE
)
# `key-` and `ccf-` also begin names that people choose, as `key-vault-proxy` and `/tmp/ccf-dir1`:
# only a word with a digit that does not begin a part of a path is a key. The search for the digit
# is bounded, because it starts again at every `key-` of `key-key-key-…`.
_KEY_LIKE: Final = lazy_re(
    r"\b(?:sk|pk|rk|gsk|xai)-[A-Za-z0-9_\-]{8,}"
    r"|(?<![\w/])(?:key|ccf)-(?=[A-Za-z_\-]{0,64}[0-9])[A-Za-z0-9_\-]{8,}"
    r"|\b(?:gsk|hf)_[A-Za-z0-9]{16,}|\bAIza[\w\-]{20,}|\beyJ[\w\-.]{20,}"
)
_KEY_BEGINNINGS: Final = (
    *("sk-", "pk-", "rk-", "xai-", "key-", "ccf-"),
    *("gsk_", "hf_", "AIza", "eyJ"),
)
"""Every match of `_KEY_LIKE` contains one of these; most texts contain none."""
_OPAQUE: Final = lazy_re(r"(?<![A-Za-z0-9_+=-])(?=[A-Za-z_+=-]*\d)[A-Za-z0-9_+=-]{20,}")
"""A long word with a digit: most keys are one, whatever they begin with."""
_NAME_PARTS: Final = lazy_re(r"[-_]")
_BASE64: Final = lazy_re(
    r"(?<![A-Za-z0-9+/])(?!/)(?=[a-z0-9+/]*[A-Z])(?=[A-Z0-9+/]*[a-z])(?=[A-Za-z+/]*[0-9])"
    r"[A-Za-z0-9+/]{40,}=*"
)
"""A long run of base64, as the keys of AWS are; what begins with `/` is a path."""
_BEARER: Final = lazy_re(r"(?i)\b(bearer|basic)\s+[^\s\"',}]{8,}")
_BEARER_WORDS: Final = ("bearer", "basic")
"""Every match of `_BEARER` contains one of these."""
_SIGNED: Final = lazy_re(
    r"(?i)\b(x-(?:amz|goog)-(?:signature|security-token)\s*[=:]\s*)[^&\s\"',;]+"
    r"|\b((?:signature|sig)=)[\w%+/=-]{16,}"
)
"""What makes a signed URL or request valid."""
_SIGNED_WORDS: Final = ("signature", "security-token", "sig=")
"""Every match of `_SIGNED` contains one of these."""
_USER: Final = lazy_re(r"(?<=//)[^/?#]*@")
_PATH_SECRET: Final = lazy_re(
    r"(?<=/)(?:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"|(?=[^/]*(?<![A-Za-z0-9])(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{20})[\w.~=+-]+)(?=/|$)"
)
"""A part of a path that no person would choose: a UUID, or a run of 20 letters and digits."""

_QUERY_ITEM: Final = lazy_re(r"([?&;])([^=&;#]*)=([^&;#]*)")
_PLAIN_QUERY: Final = frozenset({"beta", "api-version"})
"""Query parameters whose value is never a secret."""

SHORTEST_SECRET: Final = 4
"""The length from which a value is masked where it stands; shorter ones stand everywhere."""

HARMLESS_HEADERS: Final = frozenset({
    "accept", "accept-charset", "accept-encoding", "accept-language", "anthropic-beta",
    "anthropic-dangerous-direct-browser-access", "anthropic-version", "cache-control",
    "ccr-request-id", "connection", "content-encoding", "content-length", "content-type", "date",
    "expect", "host", "keep-alive", "pragma", "te", "transfer-encoding", "upgrade", "user-agent",
    "via", "x-app",
})  # fmt: skip
"""A client's headers whose values are harmless; any other value may be a secret."""

HARMLESS_BEGINNINGS: Final = ("x-stainless-", "sec-fetch-", "sec-ch-")

_BETWEEN: Final = lazy_re(r"[;,:=\s\"]+")
_COMMON_WORDS: Final = frozenset(
    {"basic", "bearer", "digest", "false", "none", "null", "token", "true", "undefined"}
)
"""Parts of header values that are words of a protocol."""


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


class KnownSecrets:
    """Secrets that a text may hold, prepared for `scrub`. Its `repr` shows none."""

    __slots__ = ("folded", "values")

    def __init__(self, secrets: Iterable[str]) -> None:
        # Longest first: a short secret may be the beginning of a long one.
        self.values = sorted(
            (each for each in secrets if len(each) >= SHORTEST_SECRET), key=len, reverse=True
        )
        self.folded = b"\0".join(map(quotes.fold, self.values))

    def __repr__(self) -> str:
        return f"KnownSecrets({len(self.values)})"


NO_SECRETS: Final = KnownSecrets(())


def mask(value: str) -> str:
    """The first and last characters of a long key; nothing of a short one."""
    if len(value) < 16:
        return "***"
    return f"{value[:5]}…{value[-4:]}"


def is_masked(value: str) -> bool:
    """Whether a text is what `mask` shows for a key, such as `***` or `Bearer ***`, and no key."""
    return value.split()[-1:] == ["***"] or "…" in value


def mask_each(values: Iterable[str]) -> list[str]:
    """Every value masked."""
    return [mask(value) for value in values]


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
    """A URL without user, password, the values of its query, and random parts of its path.

    Some gateways want keys there.
    """

    def hidden(item: re.Match[str]) -> str:
        lead, name, value = item.groups()
        return f"{lead}{name}={value if name in _PLAIN_QUERY or not value else '***'}"

    head, question, query = _USER.sub("***@", url).partition("?")
    scheme, slashes, rest = head.partition("//")
    host, slash, path = rest.partition("/")
    head = scheme + slashes + host + _PATH_SECRET.sub("***", slash + path)
    return scrub(head) + _QUERY_ITEM.sub(hidden, question + query)


_SHOWN_HEADERS: Final = frozenset({
    "accept", "accept-encoding", "anthropic-beta", "anthropic-version", "content-type",
    "user-agent", "x-app",
})  # fmt: skip
"""Headers that a curl command shows; the value of any other may be a secret."""


def debug_curl(
    url: str,
    headers: Sequence[tuple[bytes, bytes]],
    secrets: Iterable[str] | KnownSecrets = NO_SECRETS,
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


def scrub(text: str, secrets: Iterable[str] | KnownSecrets = NO_SECRETS) -> str:
    """`text` without the given secrets, however spelled, and without what looks like a key."""
    known = secrets if isinstance(secrets, KnownSecrets) else KnownSecrets(secrets)
    if known.values:
        try:
            spans = quotes.find(text, known.folded, quotes.SECRET_QUOTE)
        except quotes.TooMuch:
            return "***"
        text = quotes.replace(text, spans, "***")
    for secret in known.values:
        text = text.replace(secret, "***")
    if has_any(text, _SIGNED_WORDS):
        text = _SIGNED.sub(lambda match: f"{match[1] or match[2]}***", text)
    if any(beginning in text for beginning in _KEY_BEGINNINGS):
        text = _KEY_LIKE.sub("***", text)
    return _BEARER.sub(r"\1 ***", text) if has_any(text, _BEARER_WORDS) else text


def scrub_misplaced(value: str) -> str:
    """A value that may have been meant for another place, without what may be a key in it.

    `scrub` only knows the keys of some providers. This masks every long word with a digit that is
    not made like a name, long base64, and what `mask_url` masks: a wrong value need not be shown as
    a whole.
    """
    # First what has a known form: base64 may be only the beginning of it. `mask_url` comes last,
    # because it would cut base64 at a `/` and leave pieces too short to be recognised.
    shown = mask_url(_BASE64.sub("***", scrub(value)))
    return _OPAQUE.sub(lambda match: match[0] if _is_name(match[0]) else "***", shown)


def _is_name(word: str) -> bool:
    """Whether a person may have made up a long word, as `claude-sonnet-4-5-20250929`."""
    # Names are made of short parts: words, numbers, dates, sizes like `480b`. A key has at least
    # one long part in which letters and digits are mixed.
    return all(
        part.isalpha() or len(part) <= 5 or (part.isdigit() and len(part) <= 8)
        for part in _NAME_PARTS.split(word)
    )


def secrets_in_headers(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[str]:
    """Every value that may be a secret, and its parts: all but those of harmless headers."""
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name not in HARMLESS_HEADERS and not name.startswith(HARMLESS_BEGINNINGS):
            yield from secret_forms(raw_value.decode("latin-1"))


def secret_forms(value: str) -> Iterator[str]:
    """A value that may hold a secret: all of it, its parts, and what these are in other codes."""
    parts = dict.fromkeys((value, *_BETWEEN.split(value)))
    for part in tuple(parts):
        if len(part) >= quotes.SECRET_QUOTE:
            # As in `Basic`: a name and a password.
            with suppress(ValueError):
                decoded = b64decode(part + "=" * (-len(part) % 4), validate=True).decode()
                parts |= dict.fromkeys((decoded, *_BETWEEN.split(decoded)))
    for part in parts:
        if len(part) >= SHORTEST_SECRET and part.lower() not in _COMMON_WORDS:
            yield part
            if (decoded := unquote(part)) != part:
                yield decoded
            if len(part) >= quotes.SECRET_QUOTE:
                yield from _base64_forms(part.encode("utf-8", "replace"))


def _base64_forms(plain: bytes) -> Iterator[str]:
    """The letters that the value has in base64, at any place in what is encoded."""
    for offset in range(3):
        encoded = b64encode(b"\0" * offset + plain).decode().rstrip("=")
        # The letters at both ends depend on the neighbours, too.
        start, end = (0, 2, 3)[offset], len(encoded) - bool((offset + len(plain)) % 3)
        yield encoded[start:end]
