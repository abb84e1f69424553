"""The Claude providers of cc-switch: its `config.json`, or the rows of its database.

`settingsConfig` of a provider is what it writes into Claude Code's settings: its `env` has the
address and the key. In `meta` is what its own proxy knows more: `apiFormat`, and `isFullUrl`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from ccfallback.cli.foreign.found import (
    Foreign,
    Table,
    entries_of,
    provider_of,
    table_of,
)
from ccfallback.config.model import PRIMARY_NAME

_TIERS: Final = {
    "ANTHROPIC_DEFAULT_OPUS_MODEL": "*opus*",
    "ANTHROPIC_DEFAULT_SONNET_MODEL": "*sonnet*",
    "ANTHROPIC_DEFAULT_FABLE_MODEL": "*fable*",
    "ANTHROPIC_SMALL_FAST_MODEL": "*haiku*",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL": "*haiku*",
    "ANTHROPIC_MODEL": "*",
}
"""The models of a Claude Code environment and whom they stand for; a later row beats an earlier."""

_KEYS: Final = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY", "GOOGLE_API_KEY")
_LONG_CONTEXT: Final = re.compile(r"\[1m\]$", re.IGNORECASE)
"""A mark for Claude Code, which it takes off before it asks for the model."""

_FORMATS: Final = ("anthropic", "openai_chat")
_ENDPOINTS: Final = ("/messages", "/chat/completions")
_LAST: Final = 1 << 30


def cc_switch(found: Table) -> Foreign:
    """The one in use first, then its failover queue, then the others in the order of its list."""
    foreign = Foreign()
    claude = table_of(found.get("claude", found))
    rows = _rows(claude)
    queued = any(row.get("inFailoverQueue") for row in rows)

    def place(row: Table) -> tuple[bool, bool, int]:
        index = row.get("sortIndex")
        order = index if isinstance(index, int) else _LAST
        return not _current(row, claude), not row.get("inFailoverQueue"), order

    for row in sorted(rows, key=place):
        name = row.get("name") or row.get("id")
        provider = _provider(foreign, name, row)
        if provider is None:
            continue
        if queued and not row.get("inFailoverQueue") and not _current(row, claude):
            provider["disabled"] = True
            foreign.leave(name, "not in its failover queue, so it is disabled here")
        foreign.add(name, provider)
    foreign.leave_others(found, ("claude", "providers", "current", "version"))
    return foreign


def _rows(claude: Table) -> list[dict[str, Any]]:
    providers = claude.get("providers")
    if isinstance(providers, Mapping):
        return [{"id": key, **table_of(row)} for key, row in providers.items()]
    return [dict(row) for row in entries_of(providers)]


def _current(row: Table, claude: Table) -> bool:
    current = claude.get("current")
    return bool(current) and row.get("id") == current


def _provider(foreign: Foreign, name: object, row: Table) -> dict[str, Any] | None:
    """A row as a table of ours, or `None`, and why, where it can be none."""
    env = table_of(table_of(row.get("settingsConfig")).get("env"))
    meta = table_of(row.get("meta"))
    dialect = str(meta.get("apiFormat") or "anthropic")
    url = str(env.get("ANTHROPIC_BASE_URL") or "")
    if _is_managed(meta):
        foreign.leave(name, "it is signed in to with an account that cc-switch manages")
        return None
    if not url:
        foreign.leave(name, f"it has no ANTHROPIC_BASE_URL, so it is {PRIMARY_NAME}")
        return None
    if dialect not in _FORMATS:
        foreign.leave(name, f"it speaks {dialect}, which is not one of our formats")
        return None
    anthropic = dialect == "anthropic"
    path = urlsplit(url).path.rstrip("/")
    if meta.get("isFullUrl") and not path.endswith(_ENDPOINTS):
        foreign.leave(name, f"its address is a whole endpoint, and ends in {path or 'no path'}")
        return None
    if not anthropic and not meta.get("isFullUrl"):
        url = _with_version(url)
    mapping = {
        whom: _LONG_CONTEXT.sub("", str(env[key])) for key, whom in _TIERS.items() if env.get(key)
    }
    variable = next((each for each in _KEYS if env.get(each)), "")
    provider: dict[str, Any] = provider_of(url, anthropic, env.get(variable), mapping)
    if own := meta.get("apiKeyHeaderName"):
        provider["auth_header"] = str(own)
    elif anthropic and variable != "ANTHROPIC_API_KEY" and variable:
        provider["auth_header"] = "Authorization"
    if agent := meta.get("customUserAgent"):
        provider["headers"] = {"User-Agent": str(agent)}
    taken = {*_TIERS, *_KEYS, "ANTHROPIC_BASE_URL"}
    if others := [str(each) for each in env if each not in taken]:
        foreign.leave(name, f"variables for Claude Code itself ({', '.join(others)})")
    return provider


def _is_managed(meta: Table) -> bool:
    binding = table_of(meta.get("authBinding"))
    kind = str(meta.get("providerType") or "")
    return binding.get("source") == "managed_account" or kind in ("github_copilot", "codex_oauth")


def _with_version(url: str) -> str:
    """An address as its proxy uses it: `/v1` comes after any path, not only after none."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path or path.endswith(("/v1", *_ENDPOINTS)):
        return url
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/v1", parts.query, ""))
