"""The configuration of claude-code-router: its `config.json`, or what newer ones keep of it.

Up to version 2 a provider has `api_base_url`, its endpoint, `api_key`, `models` and `transformer`,
and `Router` says which model serves what. Since version 3 it has `baseUrl`, `apiKey` or
`credentials`, and `type`, its protocol.
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from ccfallback.cli.foreign.found import (
    Foreign,
    Table,
    entries_of,
    headers_of,
    list_of,
    provider_of,
    table_of,
)

_OTHER_DIALECTS: Final = frozenset(
    {
        "gemini",
        "gemini-cli",
        "qwen-cli",
        "rovo-cli",
        "vertex-gemini",
        "vertex-claude",
        "openai-responses",
        "openai-response",
        "openai_responses",
        "gemini_generate_content",
        "gemini_interactions",
    }
)
"""Transformers and protocols of providers that speak neither of our formats."""

_ANTHROPIC: Final = frozenset({"anthropic", "anthropic_messages"})
_OURS: Final = _ANTHROPIC | {"openai_chat_completions"}

_URLS: Final = ("api_base_url", "baseUrl", "baseurl")
_KEYS: Final = ("api_key", "apiKey", "apikey")

_ROLES: Final = ("default", "background", "fallback")
"""The routes that have a place here."""

Route = tuple[str, str]
"""Provider and model."""


def claude_code_router(found: Table) -> Foreign:
    """Its `Providers`: who serves the default first, then its fallbacks in their order."""
    foreign = Foreign()
    router = table_of(found.get("Router"))
    entries = entries_of(found.get("Providers", found.get("providers")))
    names = [str(entry.get("name")) for entry in entries]
    chain = [route for route in _chain(found, router, names) if route[0]]
    models = dict(reversed(chain))  # Who is named twice is asked for the model named first.
    small, background = _route(router.get("background"), names)
    places = {name: place for place, name in enumerate(dict(chain))}
    entries.sort(key=lambda entry: places.get(str(entry.get("name")), len(places)))
    for entry in entries:
        name = str(entry.get("name"))
        mapping = {"*haiku*": background} if small == name and background else {}
        _add(foreign, name, entry, models.get(name, ""), mapping)
    foreign.leave_others(
        found, ("Providers", "providers", "Router", "fallback", "preferredProvider")
    )
    if roles := [str(role) for role in router if role not in _ROLES and router[role]]:
        foreign.leave("Router", f"no routing by {', '.join(roles)}")
    others = table_of(found.get("fallback"))
    if roles := [str(role) for role in others if role != "default" and others[role]]:
        foreign.leave(
            "fallback", f"one chain serves all, so none of its own for {', '.join(roles)}"
        )
    return foreign


def _chain(found: Table, router: Table, names: list[str]) -> Iterator[Route]:
    """Who is asked, in order, and for what."""
    profile = table_of(table_of(found.get("profile")).get("claudeCode"))
    default = router.get("default") or profile.get("model")
    yield _route(default, names)
    for model in list_of(table_of(found.get("fallback")).get("default")):
        yield _route(model, names)
    fallback = router.get("fallback")
    for model in list_of(table_of(fallback).get("models")) or [fallback]:
        yield _route(model, names)
    yield str(found.get("preferredProvider") or ""), ""


def _add(foreign: Foreign, name: str, entry: Table, model: str, mapping: dict[str, str]) -> None:
    used = _transformers(entry.get("transformer"))
    protocol = str(entry.get("type") or "").lower()
    if other := next((use for use in (*used, protocol) if use in _OTHER_DIALECTS), None):
        foreign.leave(name, f"{other} is for a format that is not ours")
        return
    url = _first(entry, _URLS)
    if not url:
        foreign.leave(name, "it has no address")
        return
    endpoint = urlsplit(url).path.rstrip("/").endswith("/messages")
    anthropic = endpoint or not _ANTHROPIC.isdisjoint((*used, protocol))
    models = [str(each) for each in list_of(entry.get("models"))]
    if model or models:
        mapping["*"] = model or models[0]
    if rest := [each for each in models if each not in mapping.values()]:
        foreign.leave(name, f"models nobody is mapped to: {', '.join(rest)}")
    if own := [use for use in used if use not in _OURS]:
        foreign.leave(name, f"transformers ({', '.join(own)}); see `quirks` if it refuses")
    if own := [str(key) for key in table_of(entry.get("transformer")) if key != "use"]:
        foreign.leave(name, f"transformers for some of its models only ({', '.join(own)})")
    provider = provider_of(url, anthropic, _key(foreign, name, entry), mapping)
    if anthropic and _by_bearer(entry):
        provider["auth_header"] = "Authorization"
    if headers := headers_of(entry.get("extraHeaders")):
        provider["headers"] = headers
    if table_of(entry.get("extraBody")):
        foreign.leave(name, "extraBody; see `quirks.extra_body`")
    if entry.get("enabled") is False:
        provider["disabled"] = True
    foreign.add(name, provider)


def _key(foreign: Foreign, name: str, entry: Table) -> str:
    """Its key; of several the one that is used first."""
    usable = [
        each for each in entries_of(entry.get("credentials")) if each.get("enabled") is not False
    ]
    keys = [key for key in (_first(each, _KEYS) for each in (entry, *usable)) if key]
    others = len(set(keys)) - 1
    if others > 0:
        foreign.leave(
            name, f"{others} more key{'s' if others > 1 else ''}; a provider has one here"
        )
    return keys[0] if keys else ""


def _first(table: Table, keys: tuple[str, ...]) -> str:
    return next((str(table[key]) for key in keys if table.get(key)), "")


def _route(value: object, names: list[str]) -> Route:
    """Provider and model of a route, `openrouter,some/model` or `openrouter/some/model`."""
    text = value if isinstance(value, str) else ""
    name, comma, model = text.partition(",")
    if comma:
        return name.strip(), model.strip()
    fitting = [name for name in names if text.startswith(f"{name}/")]
    longest = max(fitting, key=len, default="")
    return longest, text[len(longest) + 1 :] if longest else ""


def _transformers(value: object) -> list[str]:
    """Their names, small; with options a transformer is a list that begins with its name."""
    uses = list_of(table_of(value).get("use"))
    names = [list_of(use)[0] if list_of(use) else use for use in uses]
    return [name.lower() for name in names if isinstance(name, str)]


def _by_bearer(entry: Table) -> bool:
    """Whether its Anthropic transformer is told to send the key as a bearer token."""
    uses = list_of(table_of(entry.get("transformer")).get("use"))
    return any(table_of(option).get("UseBearer") for use in uses for option in list_of(use))
