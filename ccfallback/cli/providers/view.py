"""A provider as scripts and people read it; keys masked unless they are asked for by name."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final
from urllib.parse import urlsplit

from ccfallback.cli.console import Cell
from ccfallback.config.model import Provider
from ccfallback.config.quirks import Quirks
from ccfallback.redact import is_secret_header, mask, masked_arguments, scrub

_QUERY_ITEM: Final = re.compile(r"([?&;])([^=&;]+)=([^&;]*)")
_SECRET_ITEM: Final = re.compile(r"key|token|secret|sig|auth|password|code", re.IGNORECASE)


def describe(provider: Provider, *, in_clear: bool = False) -> dict[str, Any]:
    """A provider with the config's own key names."""
    key = provider.key
    literal = None
    if key.literal is not None:
        literal = key.literal.reveal() if in_clear else key.literal.masked()
    limits = provider.timeouts
    return {
        "name": provider.name,
        "primary": provider.primary,
        "format": provider.format,
        "base_url": provider.base_url if in_clear else masked_url(provider.base_url),
        "auth_header": provider.auth_header,
        "api_key": literal,
        "api_key_env": key.env,
        "api_key_command": None if key.command is None else _arguments(key.command, in_clear),
        "retry": provider.retry,
        "disabled": provider.disabled,
        "headers": dict(provider.headers) if in_clear else masked_headers(provider.headers),
        "model_mapping": dict(provider.model_mapping),
        "timeouts": {
            "connect": limits.connect,
            "first_byte": limits.first_byte,
            "non_streaming": limits.non_streaming,
            "idle": limits.idle,
        },
        "quirks": quirks(provider),
    }


def quirks(provider: Provider) -> dict[str, Any]:
    """The switches of a provider that are not as they are by default."""
    default = Quirks()
    names = (each.name for each in fields(default))
    set_ = {name: getattr(provider.quirks, name) for name in names}
    return {name: value for name, value in set_.items() if value != getattr(default, name)}


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers without what may be a credential."""
    return {
        name: mask(value) if is_secret_header(name) else scrub(value)
        for name, value in headers.items()
    }


def masked_url(url: str) -> str:
    """A URL without keys in its query; some gateways want theirs there."""

    def hide(item: re.Match[str]) -> str:
        lead, name, value = item.groups()
        secret = _SECRET_ITEM.search(name) is not None and value
        return f"{lead}{name}={mask(value) if secret else scrub(value)}"

    head, question, query = url.partition("?")
    return scrub(head) + _QUERY_ITEM.sub(hide, question + query)


def _arguments(command: tuple[str, ...], in_clear: bool) -> list[str]:
    return list(command) if in_clear else masked_arguments(command)


def key_source(provider: Provider) -> Cell:
    """In a few words where the key comes from."""
    key = provider.key
    if key.literal is not None:
        return key.literal.masked()
    if key.env is not None:
        return f"${key.env}"
    if key.command is not None:
        return f"from {key.command[0]}"
    return "the client's own" if provider.primary else "none"


def where(provider: Provider) -> str:
    """Host and port of a provider, for a table."""
    return urlsplit(provider.base_url).netloc
