"""Which outgoing proxy a request takes: the configured one, or one of the environment.

Whatever the environment says is a text that some other program wrote, so each value is checked
where it is used, and a wrong one is an error of that one attempt.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ccfallback.addresses import is_loopback
from ccfallback.config.checks import Expected, proxy_url
from ccfallback.http1 import HTTPError

LOOK_SECONDS: Final = 60.0
"""How long the settings of the system are used before they are read again: a laptop changes
networks, and its proxy with them."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class InvalidProxy(HTTPError):
    """The outgoing proxy of the environment is not a URL that can be used."""


class ProxySettings(msgspec.Struct, frozen=True):
    """What the environment or the system says of outgoing proxies."""

    urls: Mapping[str, str]
    """By the scheme of the target; `all` is for every scheme."""
    exceptions: Sequence[str] = ()
    """Hosts that need no proxy."""
    excludes_simple: bool = False
    """Whether a name without a dot needs no proxy."""


def read_settings() -> ProxySettings:
    """The variables of the environment, or else the settings of macOS or Windows."""
    if sys.platform not in ("darwin", "win32") and not any(
        name[-6:].lower() == "_proxy" for name in os.environ
    ):
        # Loaded only where it has something to read: it takes 2 MiB of memory.
        return ProxySettings({})
    from urllib.request import getproxies, getproxies_environment

    variables = getproxies_environment()
    if variables:
        return ProxySettings(variables, variables.pop("no", "").split(","))
    urls = getproxies()
    if not urls:
        return ProxySettings({})
    exceptions, excludes_simple = _system_exceptions()
    return ProxySettings(urls, exceptions, excludes_simple)


def _system_exceptions() -> tuple[Sequence[str], bool]:
    try:
        if sys.platform == "darwin":
            import _scproxy

            settings: dict[str, Any] = _scproxy._get_proxy_settings()
            return settings.get("exceptions", ()), bool(settings.get("exclude_simple"))
        if sys.platform == "win32":
            import winreg

            path = r"Software\Microsoft\Windows\CurrentVersion\Internet Settings"
            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, path) as key:
                found = str(winreg.QueryValueEx(key, "ProxyOverride")[0]).split(";")
            return found, "<local>" in found
    except OSError:
        pass
    return (), False


class OutgoingProxies:
    """Chooses the outgoing proxy for each URL."""

    def __init__(
        self,
        configured: str | None = None,
        read: Callable[[], ProxySettings] = read_settings,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.configured = configured
        self._read = read
        self._clock = clock
        self._settings = read()
        self._next_look = clock() + LOOK_SECONDS

    def for_url(self, url: str) -> str | None:
        """The proxy for a URL; `None` if it needs none. Raises `InvalidProxy`."""
        if self._clock() >= self._next_look:
            self._look_again()
        if self.configured is None and not self._settings.urls:
            return None
        parts = urlsplit(url)
        host = parts.hostname or ""
        if is_loopback(host):
            return None
        if self.configured is not None:
            return self.configured
        settings = self._settings
        if needs_no_proxy(host, parts.port or _DEFAULT_PORTS.get(parts.scheme), settings):
            return None
        found = settings.urls.get(parts.scheme) or settings.urls.get("all")
        return usable_url(found) if found and found.strip() else None

    def find_problems(self) -> list[str]:
        """What is wrong with the proxies of the environment that are in use."""
        if self.configured is not None:
            return []
        found = []
        for name, value in self._settings.urls.items():
            if name not in (*_DEFAULT_PORTS, "all") or not value.strip():
                continue
            try:
                usable_url(value)
            except InvalidProxy as error:
                found.append(f"{name.upper()}_PROXY: {error}")
        return found

    def _look_again(self) -> None:
        """Read the settings in a thread, and use the old ones until then."""
        self._next_look = self._clock() + LOOK_SECONDS
        asyncio.get_running_loop().run_in_executor(None, self._replace_settings)

    def _replace_settings(self) -> None:
        self._settings = self._read()


def usable_url(value: str) -> str:
    """The URL that the value of a proxy variable means. Raises `InvalidProxy`.

    Many environments give host and port only. GNOME, KDE and many VPN programs write `socks://`.
    """
    value = value.strip()
    try:
        return proxy_url(value if "://" in value else f"http://{value}")
    except Expected as wrong:
        # The value may contain a password.
        raise InvalidProxy(f"the outgoing proxy is not {wrong.expected}") from None


def needs_no_proxy(host: str, port: int | None, settings: ProxySettings) -> bool:
    """Whether a host is an exception, by its name alone: a name is never looked up here."""
    host = host.rstrip(".").lower()
    if settings.excludes_simple and "." not in host and ":" not in host:
        return True
    return any(_is_exception(host, port, each.strip().lower()) for each in settings.exceptions)


def _is_exception(host: str, port: int | None, rule: str) -> bool:
    """Whether a rule such as `*`, `.example.com`, `host:8080`, `10.*` or `10.0.0.0/8` matches."""
    if not rule:
        return False
    if rule == "*":
        return True
    if "/" in rule:
        return _is_in_network(host, rule)
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit() and ":" not in name.strip("[]").partition("]")[0]:
        if port != int(number):
            return False
        rule = name
    rule = rule.strip("[]").rstrip(".")
    if "*" in rule:
        return fnmatchcase(host, rule)
    rule = rule.lstrip(".")
    return host == rule or (not _is_ip(rule) and host.endswith(f".{rule}"))


def _is_in_network(host: str, rule: str) -> bool:
    # macOS shortens `169.254.0.0/16` to `169.254/16`.
    network, _, bits = rule.partition("/")
    missing = 3 - network.count(".") if ":" not in network else 0
    try:
        return ip_address(host) in ip_network(f"{network}{'.0' * missing}/{bits}", strict=False)
    except ValueError:
        return False


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
