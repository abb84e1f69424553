"""What the environment of Claude Code has to say for it to come here, and what may be in the way.

Its login stays its own: nothing here sets a key or a token of Anthropic's.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from ccfallback.wire.target import address

BASE_URL: Final = "ANTHROPIC_BASE_URL"
CUSTOM_HEADERS: Final = "ANTHROPIC_CUSTOM_HEADERS"
TOKEN_HEADER: Final = "x-ccf-api-key"

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

_PROXIES: Final = ("https_proxy", "http_proxy", "all_proxy")
_NO_PROXY: Final = ("NO_PROXY", "no_proxy")
_CREDENTIALS: Final = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY")


def pointing(environ: Mapping[str, str], url: str, token: str | None) -> dict[str, str]:
    """The variables that send a client with this environment to `url`, with an access token.

    Headers that the user has given stay, one a line, as Claude Code reads them.
    """
    variables = {BASE_URL: url}
    if token is not None:
        ours = f"{TOKEN_HEADER}: {token}"
        others = [line for line in _lines(environ) if _header(line)[0] != TOKEN_HEADER]
        variables[CUSTOM_HEADERS] = "\n".join([*others, ours])
    return variables


def shown_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """What a client with this environment shows in the places of an access token, by variable."""
    found = {name: environ[name].strip() for name in _CREDENTIALS if environ.get(name)}
    for line in _lines(environ):
        name, value = _header(line)
        if name == TOKEN_HEADER:
            found[CUSTOM_HEADERS] = value
    return found


def capturing(environ: Mapping[str, str], host: str = "127.0.0.1") -> str | None:
    """The variable by which an outgoing proxy would get what is meant for `host`.

    `None` where there is none, or `NO_PROXY` keeps the host out of it.
    """
    proxy = next((name for name in environ if name.lower() in _PROXIES and environ[name]), None)
    if proxy is None or all(_is_exempt(host, value) for value in _exemptions(environ)):
        return None
    return proxy


def exempting_loopback(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep this machine out of an outgoing proxy; none where none is needed."""
    if all(capturing(environ, host) is None for host in LOOPBACK[:2]):
        return {}
    known = next((environ[name] for name in _NO_PROXY if environ.get(name)), "")
    variables = {}
    for name in _NO_PROXY:
        value = environ.get(name) or known
        missing = [host for host in LOOPBACK if not _is_exempt(host, value)]
        variables[name] = ",".join([*filter(None, [value.strip().rstrip(",")]), *missing])
    return variables


def _exemptions(environ: Mapping[str, str]) -> Iterable[str]:
    """What each spelling of `NO_PROXY` says; who reads it may look at either."""
    return [environ[name] for name in _NO_PROXY if name in environ] or [""]


def _is_exempt(host: str, no_proxy: str) -> bool:
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        if entry == "*" or entry.strip("[].") == host:
            return True
    return False


def _lines(environ: Mapping[str, str]) -> list[str]:
    return [line for line in environ.get(CUSTOM_HEADERS, "").splitlines() if line.strip()]


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def leads_to(url: str, own: str) -> bool:
    """Whether a base URL leads to the server at `own`, whatever path it has."""
    try:
        return urlsplit(url).scheme == urlsplit(own).scheme and address(url) == address(own)
    except (ValueError, KeyError):
        return False
