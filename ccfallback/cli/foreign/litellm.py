"""The `config.yaml` of a litellm proxy."""

from typing import Any, Final

from ccfallback.cli.foreign.found import (
    Foreign,
    Table,
    entries_of,
    headers_of,
    provider_of,
    reference,
    table_of,
)
from ccfallback.config.presets import presets

_CLOUDS: Final = frozenset(
    {
        "azure",
        "azure_ai",
        "bedrock",
        "bedrock_converse",
        "chatgpt",
        "databricks",
        "github_copilot",
        "sagemaker",
        "sagemaker_chat",
        "snowflake",
        "vertex_ai",
        "vertex_ai_beta",
        "watsonx",
    }
)
"""Providers that are signed in to, or addressed, in ways of their own."""

_READ: Final = frozenset(
    {
        "model",
        "api_base",
        "base_url",
        "api_key",
        "custom_llm_provider",
        "litellm_credential_name",
        "extra_headers",
        "headers",
    }
)
"""The `litellm_params` that have a place here."""


def litellm(found: Table) -> Foreign:
    """Its `model_list`: one provider for each address and key."""
    foreign = Foreign()
    credentials = {
        str(each.get("credential_name")): table_of(each.get("credential_values"))
        for each in entries_of(found.get("credential_list"))
    }
    groups: dict[tuple[str, str, str], dict[str, str]] = {}
    headers: dict[tuple[str, str, str], dict[str, str]] = {}
    for entry in entries_of(found.get("model_list")):
        alias, params = str(entry.get("model_name", "")), table_of(entry.get("litellm_params"))
        named = str(params.get("litellm_credential_name") or "")
        if named and named not in credentials:
            foreign.leave(alias, f"its credential {named} is not in the file")
        address = _address(foreign, alias, {**credentials.get(named, {}), **params})
        if address is None:
            continue
        *group, model = address
        key = (group[0], group[1], group[2])
        mapping = groups.setdefault(key, {})
        headers.setdefault(key, {}).update(_headers(foreign, alias, params))
        if "*" not in model:
            mapping.setdefault(alias, model)
            if mapping[alias] != model:
                foreign.leave(alias, f"{model} at the same address: a model is mapped to one here")
        if others := [str(each) for each in params if each not in _READ]:
            foreign.leave(alias, f"parameters ({', '.join(others)})")
    for (vendor, url, secret), mapping in groups.items():
        if mapping and "*" not in mapping:
            mapping["*"] = next(iter(mapping.values()))
        provider = provider_of(url, vendor == "anthropic", secret, mapping)
        if own := headers[vendor, url, secret]:
            provider["headers"] = own
        foreign.add(vendor, provider)
    foreign.leave_others(found, ("model_list", "credential_list"))
    return foreign


def _headers(foreign: Foreign, alias: str, params: Table) -> dict[str, str]:
    """The headers of an entry, those that are not in the environment."""
    given = {**headers_of(params.get("headers")), **headers_of(params.get("extra_headers"))}
    if secret := [name for name, value in given.items() if reference(value)]:
        foreign.leave(alias, f"headers that are in variables ({', '.join(secret)})")
    return {name: value for name, value in given.items() if name not in secret}


def _address(foreign: Foreign, alias: str, params: dict[str, Any]) -> tuple[str, ...] | None:
    """Vendor, URL, key and model of an entry; `None`, and why, where one is not known."""
    whole = str(params.get("model", ""))
    vendor, slash, model = whole.partition("/")
    if own := str(params.get("custom_llm_provider") or ""):
        vendor, model = own, whole.removeprefix(f"{own}/")
    elif not slash:
        model = vendor
        vendor = "anthropic" if vendor.startswith("claude") else "openai"
    preset = presets().get(f"{vendor}-openai", presets().get(vendor))
    url = str(params.get("api_base") or params.get("base_url") or "")
    if not url and vendor == "anthropic":
        url = "https://api.anthropic.com"
    elif not url and preset is not None and not preset.placeholders:
        url = preset.url() if preset.format == "openai" else ""
    if vendor in _CLOUDS:
        foreign.leave(alias, f"{vendor} is signed in to in a way of its own")
        return None
    if not url:
        foreign.leave(alias, f"the address of {vendor} is not known; it has no api_base")
        return None
    default = "ANTHROPIC_API_KEY" if vendor == "anthropic" else ""
    default = preset.key_env if preset is not None else default
    key = str(params.get("api_key") or (default and f"${default}"))
    return vendor, url, key, model
