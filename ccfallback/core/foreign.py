"""The provider lists of other programs, in our words.

Best effort: what can't be carried over is named in `left_out`, never guessed. What is taken over
may still be wrong (a URL that is none); the schema says that, as it does for any import.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from ccfallback.core.config import PRIMARY_NAME
from ccfallback.core.presets import PRESETS
from ccfallback.errors import ConfigError

Table = Mapping[str, Any]

_REFERENCE: Final = re.compile(r"os\.environ/(\w+)|\$(\w+)|\$\{(\w+)\}")
"""A key that is in the environment, in the three ways in which the others say so."""

_LONGEST: Final = 64
_BAD_LETTERS: Final = re.compile(r"[^A-Za-z0-9._-]+")

_OTHER_DIALECTS: Final = frozenset(
    {"gemini", "vertex-gemini", "vertex-claude", "openai-responses", "openai-response"}
)
"""Transformers of claude-code-router for providers of neither of our formats."""

_CLOUDS: Final = frozenset({"azure", "azure_ai", "bedrock", "sagemaker", "vertex_ai"})
"""Providers of litellm that are signed in to, or addressed, in ways of their own."""

_TIERS: Final = {
    "ANTHROPIC_DEFAULT_OPUS_MODEL": "*opus*",
    "ANTHROPIC_DEFAULT_SONNET_MODEL": "*sonnet*",
    "ANTHROPIC_SMALL_FAST_MODEL": "*haiku*",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL": "*haiku*",
    "ANTHROPIC_MODEL": "*",
}
"""The models of a Claude Code environment and whom they stand for; a later row beats an earlier."""


@dataclass(slots=True)
class Foreign:
    """What another program's file holds."""

    providers: list[dict[str, Any]] = field(default_factory=list)
    """As `[[providers]]` tables."""
    left_out: list[str] = field(default_factory=list)
    """What has not been taken over, each in a few words."""

    def add(self, name: object, provider: dict[str, Any]) -> None:
        """Add a provider under a valid name that nobody else has."""
        taken = {PRIMARY_NAME, *(each["name"] for each in self.providers)}
        plain = _BAD_LETTERS.sub("-", str(name)).strip("-")[:_LONGEST] or "provider"
        free, number = plain, 1
        while free in taken:
            number += 1
            free = f"{plain[: _LONGEST - 1 - len(str(number))]}-{number}"
        self.providers.append({"name": free, **provider})

    def leave(self, what: object, why: str) -> None:
        """Say that something is not taken over."""
        self.left_out.append(f"{what}: {why}")

    def leave_others(self, table: Table, known: Iterable[str]) -> None:
        """Say which members of a file were not looked at."""
        others = [str(key) for key in table if key not in known]
        if others:
            self.leave(", ".join(others), "settings of that program, not of a provider")


def claude_code_router(found: Table) -> Foreign:
    """The `Providers` of a claude-code-router `config.json`; who serves its default goes first."""
    foreign = Foreign()
    router = _table(found.get("Router"))
    first, default = _route(router.get("default"))
    _, background = small = _route(router.get("background"))
    entries = _entries(found.get("Providers", found.get("providers")))
    for entry in sorted(entries, key=lambda entry: entry.get("name") != first):
        name = entry.get("name")
        used = _transformers(entry.get("transformer"))
        if other := next((use for use in used if use in _OTHER_DIALECTS), None):
            foreign.leave(name, f"its transformer {other} is for a format that is not ours")
            continue
        url = str(entry.get("api_base_url", ""))
        anthropic = "anthropic" in used or urlsplit(url).path.endswith("/messages")
        models = [str(model) for model in _list(entry.get("models"))]
        mapping = {}
        if small[0] == name and background:
            mapping["*haiku*"] = background
        if model := default if name == first else next(iter(models), ""):
            mapping["*"] = model
        rest = [model for model in models if model not in mapping.values()]
        if rest:
            foreign.leave(name, f"models nobody is mapped to: {', '.join(rest)}")
        if own := [use for use in used if use != "anthropic"]:
            foreign.leave(name, f"transformers ({', '.join(own)}); see `quirks` if it refuses")
        foreign.add(name, _provider(url, anthropic, entry.get("api_key"), mapping))
    foreign.leave_others(found, ("Providers", "providers", "Router"))
    if roles := [role for role in router if role not in ("default", "background") and router[role]]:
        foreign.leave("Router", f"no routing by {', '.join(map(str, roles))}")
    return foreign


def cc_switch(found: Table) -> Foreign:
    """The Claude providers of a cc-switch `config.json`; the one in use goes first."""
    foreign = Foreign()
    claude = _table(found.get("claude", found))
    providers = claude.get("providers")
    if isinstance(providers, Mapping):
        rows = [{"id": key, **_table(row)} for key, row in providers.items()]
    else:
        rows = [dict(row) for row in _entries(providers)]
    for row in sorted(rows, key=lambda row: row.get("id") != claude.get("current")):
        name = row.get("name") or row.get("id")
        env = _table(_table(row.get("settingsConfig")).get("env"))
        dialect = str(_table(row.get("meta")).get("apiFormat", "anthropic"))
        url = env.get("ANTHROPIC_BASE_URL")
        if not url:
            foreign.leave(name, f"it has no ANTHROPIC_BASE_URL, so it is {PRIMARY_NAME}")
            continue
        if dialect not in ("anthropic", "openai_chat"):
            foreign.leave(name, f"it speaks {dialect}, which is not one of our formats")
            continue
        mapping = {whom: str(env[key]) for key, whom in _TIERS.items() if env.get(key)}
        token = env.get("ANTHROPIC_AUTH_TOKEN")
        key = token or env.get("ANTHROPIC_API_KEY")
        provider = _provider(str(url), dialect == "anthropic", key, mapping)
        if token and dialect == "anthropic":
            provider["auth_header"] = "Authorization"
        foreign.add(name, provider)
        taken = {*_TIERS, "ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"}
        if others := [str(variable) for variable in env if variable not in taken]:
            foreign.leave(name, f"variables for Claude Code itself ({', '.join(others)})")
    foreign.leave_others(found, ("claude", "providers", "current", "version"))
    return foreign


def litellm(found: Table) -> Foreign:
    """The `model_list` of a litellm `config.yaml`: one provider for each address and key."""
    foreign = Foreign()
    groups: dict[tuple[str, str, str], dict[str, str]] = {}
    for entry in _entries(found.get("model_list")):
        alias, params = str(entry.get("model_name", "")), _table(entry.get("litellm_params"))
        vendor, slash, model = str(params.get("model", "")).partition("/")
        if not slash:
            model = vendor
            vendor = "anthropic" if vendor.startswith("claude") else "openai"
        preset = PRESETS.get(f"{vendor}-openai", PRESETS.get(vendor))
        url = str(params.get("api_base") or params.get("base_url") or "")
        if not url and vendor == "anthropic":
            url = "https://api.anthropic.com"
        elif not url and preset is not None and not preset.placeholders:
            url = preset.url() if preset.format == "openai" else ""
        if vendor in _CLOUDS:
            foreign.leave(alias, f"{vendor} is signed in to in a way of its own")
        elif not url:
            foreign.leave(alias, f"the address of {vendor} is not known; it has no api_base")
        else:
            default = "ANTHROPIC_API_KEY" if vendor == "anthropic" else ""
            default = preset.key_env if preset is not None else default
            key = str(params.get("api_key") or (default and f"${default}"))
            mapping = groups.setdefault((vendor, url, key), {})
            if "*" not in model:
                mapping.setdefault(alias, model)
    for (vendor, url, key), mapping in groups.items():
        if mapping and "*" not in mapping:
            mapping["*"] = next(iter(mapping.values()))
        foreign.add(vendor, _provider(url, vendor == "anthropic", key, mapping))
    foreign.leave_others(found, ("model_list",))
    return foreign


PROGRAMS: Final[Mapping[str, Callable[[Table], Foreign]]] = MappingProxyType(
    {"claude-code-router": claude_code_router, "cc-switch": cc_switch, "litellm": litellm}
)
"""The programs whose files can be read, and how."""


def translated(program: str, found: object) -> Foreign:
    """What a decoded file of a program holds; `ConfigError` if that is no provider at all."""
    foreign = PROGRAMS[program](_table(found))
    if not foreign.providers:
        why = f" ({'; '.join(foreign.left_out)})" if foreign.left_out else ""
        raise ConfigError(
            f"there is no provider of {program} to be taken over in it{why}",
            "see whether it is that program's own file",
        )
    return foreign


def _provider(url: str, anthropic: bool, key: object, mapping: dict[str, str]) -> dict[str, Any]:
    provider: dict[str, Any] = {"base_url": url}
    if not anthropic:
        provider["format"] = "openai"
    if isinstance(key, str) and key:
        reference = _REFERENCE.fullmatch(key)
        if reference is None:
            provider["api_key"] = key
        else:
            provider["api_key_env"] = next(filter(None, reference.groups()))
    if mapping:
        provider["model_mapping"] = mapping
    return provider


def _route(value: object) -> tuple[str, str]:
    """Provider and model of a claude-code-router route, `openrouter,some/model`."""
    name, _, model = str(value or "").partition(",")
    return name, model


def _transformers(value: object) -> list[str]:
    """Their names, small; with options a transformer is a list that begins with its name."""
    names = [_list(use)[0] if _list(use) else use for use in _list(_table(value).get("use"))]
    return [name.lower() for name in names if isinstance(name, str)]


def _table(value: object) -> Table:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _entries(value: object) -> list[Table]:
    return [entry for entry in _list(value) if isinstance(entry, Mapping)]
