"""Hosts and ports of URLs, and which of them are this machine."""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ccfallback.short_cache import short_cache

_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})

_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")

LOOPBACK: Final = "loopback"
"""The host of an `Address`, for every name of the loopback interface."""


class Address(NamedTuple):
    """A host and a port, for comparing."""

    host: str
    port: int


@short_cache(512)
def address(url: str) -> Address:
    """The host and port that a URL leads to; all names of the loopback interface are the same."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return Address(LOOPBACK if is_loopback(host) else host, parts.port or _PORTS[parts.scheme])


@lru_cache(maxsize=512)
def host_and_port(url: str) -> str:
    """The host and port as the URL writes them, for messages."""
    return urlsplit(url).netloc


def bare_url(url: str) -> str:
    """A URL for messages: without the parts that may hold a secret, which are user, password, query
    and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


@lru_cache(maxsize=512)
def is_local(url: str) -> bool:
    """Whether a URL leads to this machine or to a private address, as far as its text says."""
    host = urlsplit(url).hostname or ""
    if is_loopback(host):
        return True
    try:
        return ip_address(host).is_private
    except ValueError:
        return False


def is_host(text: str) -> bool:
    """Whether a text has the form of a host name or an IP address."""
    name = text.strip("[]")
    if ":" in name:
        try:
            return ip_address(name).version == 6
        except ValueError:
            return False
    return _HOST_NAME.fullmatch(text) is not None


_MOST_PROXIES: Final = 20
"""How many entries of `x-forwarded-for` count; a client may send thousands."""

_LONGEST_ADDRESS: Final = 100
"""Characters of an IPv6 address with its zone, its port and what encloses it, and some more."""


class TrustedProxies:
    """Reverse proxies that tell the truth about their clients."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(each, strict=False) for each in networks)

    def find_client(self, peer: str, forwarded_for: str) -> str:
        """The last address of the way here that is not a trusted proxy's; empty if unknown.

        `peer` is the other end of the connection, and `forwarded_for` the addresses before it as
        `x-forwarded-for` has them: the client may have written all but those that trusted proxies
        have added at the end. What is not an address there ends the way.
        """
        client = _parse_address(peer)
        for entry in reversed(forwarded_for.rsplit(",", _MOST_PROXIES)[-_MOST_PROXIES:]):
            if client is None or not any(client in network for network in self._networks):
                break
            before = _parse_address(entry)
            if before is None:
                break
            client = before
        return "" if client is None else str(client)


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """An IP address, with a port or without, as proxies and sockets write it."""
    text = text.strip().strip('"')
    if len(text) > _LONGEST_ADDRESS:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's loopback interface."""
    host = host.strip("[]").removesuffix(".").lower()
    if host in _LOOPBACK_NAMES or (host.endswith(".localhost") and all(host.split("."))):
        return True
    try:
        found = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
