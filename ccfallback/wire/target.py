"""Where a try goes: the endpoint of a base URL, and the model by the provider's own name."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

ENDPOINTS: Final[Mapping[str, str]] = {
    "anthropic": "/v1/messages",
    "openai": "/v1/chat/completions",
}
"""What a format's endpoint is called below a bare host."""

LONG_CONTEXT: Final = "[1m]"

_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


class Address(NamedTuple):
    """Host and port, for comparing."""

    host: str
    port: int


@lru_cache(maxsize=512)
def endpoint(base_url: str, wire_format: str) -> str:
    """The URL of a provider's endpoint.

    A URL whose path ends as the format's endpoint does is the endpoint itself. To a base the
    missing part is appended, once; a query string stays.
    """
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/")
    full = ENDPOINTS[wire_format]
    leaf = full.removeprefix("/v1")
    if not path.endswith(leaf):
        below_any_path = wire_format == "openai" and path
        path += leaf if path.endswith("/v1") or below_any_path else full
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


@lru_cache(maxsize=512)
def below(base_url: str, path: str) -> str:
    """The URL of another path (such as `/v1/models`) at a provider of the Anthropic format."""
    parts = urlsplit(endpoint(base_url, "anthropic"))
    root = parts.path.removesuffix("/v1/messages").removesuffix("/messages")
    return urlunsplit((parts.scheme, parts.netloc, root + path, parts.query, ""))


@lru_cache(maxsize=512)
def address(url: str) -> Address:
    """Host and port that a URL leads to; every name of this machine's loopback as one."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return Address("loopback" if is_loopback(host) else host, parts.port or _PORTS[parts.scheme])


@lru_cache(maxsize=512)
def host_of(url: str) -> str:
    """Host and port as the URL writes them, for a person."""
    return urlsplit(url).netloc


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback."""
    host = host.strip("[]").rstrip(".").lower()
    if host in _LOOPBACK_NAMES or host.endswith(".localhost"):
        return True
    try:
        found = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def mapped_model(model: str, mapping: Mapping[str, str]) -> str:
    """A model by the provider's name: an exact row beats the longest glob, itself where none fits.

    A `[1m]` at the end is the client's way to ask for a long context, no part of the name: a
    row without it fits too.
    """
    if not mapping:
        return model
    names = (model, model.removesuffix(LONG_CONTEXT))
    for name in names:
        if name in mapping:
            return mapping[name]
    for name in names:
        globs = [glob for glob in mapping if fnmatchcase(name, _literal_suffix(glob))]
        if globs:
            return mapping[max(globs, key=len)]
    return model


def _literal_suffix(glob: str) -> str:
    """A glob in which the mark of a long context is no set of characters."""
    if glob.endswith(LONG_CONTEXT):
        return glob.removesuffix(LONG_CONTEXT) + "[[]1m]"
    return glob
