"""A failed request as a curl command, for a person to repeat it: without secrets or content."""

from collections.abc import Iterable, Sequence
from shlex import quote
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ccfallback.redact import is_secret_header, scrub

SHOWN: Final = frozenset(
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
"""Headers that are shown; the value of any other may be a secret."""

SHOWN_QUERY: Final = frozenset({"beta", "api-version"})


def debug_curl(
    url: str, headers: Sequence[tuple[bytes, bytes]], secrets: Iterable[str] = ()
) -> str:
    """The command; the body is left for the person to put into `request.json`."""
    parts = ["curl", "-sS", "-X", "POST", quote(scrub(masked_url(url), secrets))]
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        shown = scrub(value, secrets) if name in SHOWN and not is_secret_header(name) else "***"
        parts += ["-H", quote(f"{name}: {shown}")]
    return " ".join([*parts, "--data-binary", "@request.json"])


def masked_url(url: str) -> str:
    """A URL whose query holds no secret."""
    parts = urlsplit(url)
    if not parts.query:
        return url
    shown = [
        (name, value if name in SHOWN_QUERY else "***")
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return urlunsplit(parts._replace(query=urlencode(shown, safe="*")))
