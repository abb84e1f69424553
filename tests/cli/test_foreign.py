"""Other programs' provider lists: what is imported, and what is reported as not imported."""

from typing import Any

import pytest

from ccfallback.cli.foreign import PROGRAMS, Foreign, translate
from ccfallback.config.schema import parse
from ccfallback.errors import ConfigError
from ccfallback.wire import FORMATS

ROUTER: dict[str, Any] = {
    "PROXY_URL": "http://127.0.0.1:7890",
    "Providers": [
        {
            "name": "Local models!",
            "api_base_url": "http://localhost:11434/v1/chat/completions",
            "api_key": "ollama",
            "models": ["small", "other"],
        },
        {
            "name": "openrouter",
            "api_base_url": "https://openrouter.example/api/v1/chat/completions",
            "api_key": "${OPENROUTER_API_KEY}",
            "models": ["large", "spare"],
            "transformer": {"use": ["openrouter", ["maxtoken", {"max_tokens": 9}]]},
        },
        {
            "name": "google",
            "api_base_url": "https://google.example/v1beta/models/",
            "transformer": {"use": ["gemini"]},
        },
        {
            "name": "claude",
            "api_base_url": "https://claude.example/v1/messages",
            "api_key": "$KEY",
            "transformer": {"use": ["Anthropic"]},
        },
    ],
    "Router": {
        "default": "openrouter,large",
        "background": "Local models!,small",
        "think": "openrouter,spare",
    },
}
SWITCH: dict[str, Any] = {
    "version": 2,
    "claude": {
        "current": "b",
        "providers": {
            "a": {
                "name": "Relay",
                "settingsConfig": {
                    "env": {
                        "ANTHROPIC_BASE_URL": "https://relay.example",
                        "ANTHROPIC_API_KEY": "k1",
                        "ANTHROPIC_MODEL": "m",
                        "ANTHROPIC_SMALL_FAST_MODEL": "old",
                        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "s",
                        "API_TIMEOUT_MS": "1",
                    }
                },
            },
            "b": {
                "name": "Relay",
                "settingsConfig": {
                    "env": {
                        "ANTHROPIC_BASE_URL": "https://second.example",
                        "ANTHROPIC_AUTH_TOKEN": "k2",
                    }
                },
            },
            "c": {"name": "Official", "settingsConfig": {"env": {}}},
            "d": {
                "name": "Responses",
                "settingsConfig": {"env": {"ANTHROPIC_BASE_URL": "https://r.example"}},
                "meta": {"apiFormat": "openai_responses"},
            },
        },
    },
    "codex": {"providers": {}},
}
LITELLM: dict[str, Any] = {
    "model_list": [
        {
            "model_name": "claude-sonnet",
            "litellm_params": {
                "model": "openrouter/vendor/large",
                "api_key": "os.environ/ROUTER_KEY",
            },
        },
        {
            "model_name": "claude-haiku",
            "litellm_params": {
                "model": "openrouter/vendor/small",
                "api_key": "os.environ/ROUTER_KEY",
            },
        },
        {
            "model_name": "direct",
            "litellm_params": {"model": "claude-9", "api_base": "https://direct.example"},
        },
        {"model_name": "cloud", "litellm_params": {"model": "bedrock/claude"}},
        {"model_name": "odd", "litellm_params": {"model": "nobody-knows/it"}},
        {
            "model_name": "any/*",
            "litellm_params": {"model": "openai/*", "api_base": "https://any.example/v1"},
        },
    ],
    "router_settings": {"num_retries": 2},
}
FILES = {"claude-code-router": ROUTER, "cc-switch": SWITCH, "litellm": LITELLM}


def read(program: str) -> tuple[list[dict[str, Any]], str]:
    foreign = translate(program, FILES[program])
    return foreign.providers, "\n".join(foreign.omitted)


@pytest.mark.parametrize("program", PROGRAMS)
def test_imported_providers_fit_the_schema(program: str) -> None:
    providers, _ = read(program)
    config = parse({"providers": providers}, formats=FORMATS)
    assert len(config.providers) == len(providers)


def test_claude_code_router() -> None:
    providers, omitted = read("claude-code-router")
    assert providers == [
        {
            "name": "openrouter",
            "base_url": "https://openrouter.example/api/v1/chat/completions",
            "format": "openai",
            "api_key_env": "OPENROUTER_API_KEY",
            "model_mapping": {"*": "large"},
        },
        {
            "name": "Local-models",
            "base_url": "http://localhost:11434/v1/chat/completions",
            "format": "openai",
            "api_key": "ollama",
            "model_mapping": {"*haiku*": "small", "*": "small"},
        },
        {"name": "claude", "base_url": "https://claude.example/v1/messages", "api_key_env": "KEY"},
    ]
    for said in ("PROXY_URL", "google: gemini is for a format", "by think", "maxtoken", "spare"):
        assert said in omitted


def test_cc_switch() -> None:
    providers, omitted = read("cc-switch")
    assert providers == [
        {
            "name": "Relay",
            "base_url": "https://second.example",
            "api_key": "k2",
            "auth_header": "Authorization",
        },
        {
            "name": "Relay-2",
            "base_url": "https://relay.example",
            "api_key": "k1",
            "model_mapping": {"*haiku*": "s", "*": "m"},
        },
    ]
    for said in ("Official", "openai_responses", "API_TIMEOUT_MS", "codex"):
        assert said in omitted


def test_litellm_gives_one_provider_for_each_address_and_key() -> None:
    providers, omitted = read("litellm")
    assert providers == [
        {
            "name": "openrouter",
            "base_url": "https://openrouter.ai/api/v1",
            "format": "openai",
            "api_key_env": "ROUTER_KEY",
            "model_mapping": {
                "claude-sonnet": "vendor/large",
                "claude-haiku": "vendor/small",
                "*": "vendor/large",
            },
        },
        {
            "name": "anthropic",
            "base_url": "https://direct.example",
            "api_key_env": "ANTHROPIC_API_KEY",
            "model_mapping": {"direct": "claude-9", "*": "claude-9"},
        },
        {
            "name": "openai",
            "base_url": "https://any.example/v1",
            "format": "openai",
            "api_key_env": "OPENAI_API_KEY",
        },
    ]
    for said in ("cloud: bedrock", "odd: the address", "router_settings"):
        assert said in omitted


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("found", [None, [], {}, "text", {"Providers": 5, "model_list": {}}])
def test_a_file_without_a_provider_is_refused(program: str, found: object) -> None:
    with pytest.raises(ConfigError, match="no provider"):
        translate(program, found)


def test_long_names_stay_valid_and_unique() -> None:
    foreign = Foreign()
    for name in ("x" * 99, "x" * 99, "anthropic-primary", "日本", None):
        foreign.add(name, "https://a.example", "", anthropic=True)
    names = [provider["name"] for provider in foreign.providers]
    assert names == ["x" * 64, f"{'x' * 62}-2", "anthropic-primary-2", "provider", "None"]


def taken_over(program: str, found: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], str]:
    """The providers by their names, in order, and what was not imported."""
    foreign = translate(program, found)
    by_name = {provider.pop("name"): provider for provider in foreign.providers}
    return by_name, "\n".join(foreign.omitted)


def test_claude_code_router_s_fallbacks_come_in_their_order_with_their_models() -> None:
    def one(name: str, *models: str, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "api_base_url": f"https://{name}.example/v1",
            "models": models,
            **more,
        }

    found = {
        "Providers": [
            one("c", transformer={"use": [["Anthropic", {"UseBearer": True}]]}),
            one("b", transformer={"use": ["x"], "m2": {"use": ["y"]}}),
            one("a"),
            one("spare"),
            {"name": "moving", "api_base_url": "$SOMEWHERE"},
            {"name": "nowhere"},
        ],
        "Router": {"default": "a,m1"},
        "fallback": {"default": ["b,m2", "c,m3", "a,m4"], "think": ["b,m2"], "image": []},
    }
    providers, omitted = taken_over("claude-code-router", found)
    assert list(providers) == ["a", "b", "c", "spare"]
    models = [provider.get("model_mapping") for provider in providers.values()]
    assert models == [{"*": "m1"}, {"*": "m2"}, {"*": "m3"}, None]
    assert providers["c"]["auth_header"] == "Authorization"
    for said in (
        "moving: its address is in the variable SOMEWHERE",
        "nowhere: it has no address",
        "b: transformers for some of its models only (m2)",
        "fallback: one chain serves all requests, without one for think",
    ):
        assert said in omitted


def test_claude_code_router_from_version_3_on() -> None:
    found = {
        "Providers": [
            {
                "name": "Relay",
                "type": "anthropic_messages",
                "baseUrl": "https://relay.example",
                "credentials": [
                    {"apiKey": "off", "enabled": False},
                    {"api_key": "k1"},
                    {"apiKey": "k2"},
                ],
                "models": ["m"],
                "extraHeaders": {"X-Team": "t"},
                "extraBody": {"a": 1},
            },
            {
                "name": "Chat",
                "type": "openai_chat_completions",
                "baseUrl": "https://chat.example/v1",
                "apiKey": "$CHAT_KEY",
                "models": ["vendor/m"],
                "enabled": False,
            },
            {"name": "R", "type": "openai_responses", "baseUrl": "https://r.example"},
        ],
        "Router": {"fallback": {"mode": "model-chain", "models": ["Relay/m"]}, "rules": []},
        "profile": {"claudeCode": {"model": "Chat/vendor/m"}},
    }
    providers, omitted = taken_over("claude-code-router", found)
    assert providers == {
        "Chat": {
            "base_url": "https://chat.example/v1",
            "format": "openai",
            "api_key_env": "CHAT_KEY",
            "model_mapping": {"*": "vendor/m"},
            "disabled": True,
        },
        "Relay": {
            "base_url": "https://relay.example",
            "api_key": "k1",
            "model_mapping": {"*": "m"},
            "headers": {"X-Team": "t"},
        },
    }
    assert list(providers) == ["Chat", "Relay"]
    for said in ("Relay: 1 more key;", "Relay: extraBody", "R: openai_responses is for a format"):
        assert said in omitted


def switch(name: str, url: str, *, env: dict[str, str] | None = None, **row: Any) -> dict[str, Any]:
    variables = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": "k", **(env or {})}
    return {"name": name, "settingsConfig": {"env": variables}, **row}


def test_cc_switch_s_failover_queue_keeps_its_order_and_the_rest_is_disabled() -> None:
    rows = {
        "1": switch("last", "https://last.example", sortIndex=0),
        "2": switch("second", "https://second.example", sortIndex=2, inFailoverQueue=True),
        "3": switch("first", "https://first.example", sortIndex=1, inFailoverQueue=True),
        "4": switch("used", "https://used.example", sortIndex=9),
    }
    providers, omitted = taken_over("cc-switch", {"claude": {"current": "4", "providers": rows}})
    assert list(providers) == ["used", "first", "second", "last"]
    assert [name for name, each in providers.items() if each.get("disabled")] == ["last"]
    assert "last: not in its failover queue" in omitted


@pytest.mark.parametrize(
    ("url", "meta", "taken"),
    [
        ("https://a.example", {}, "https://a.example"),
        ("https://a.example/api/", {}, "https://a.example/api/v1"),
        ("https://a.example/api/v1", {}, "https://a.example/api/v1"),
        ("https://a.example/x/chat/completions", {"isFullUrl": True}, None),
        ("https://a.example/x/chat", {"isFullUrl": True}, ""),
    ],
)
def test_cc_switch_s_addresses_of_the_openai_format(
    url: str, meta: dict[str, Any], taken: str | None
) -> None:
    row = switch("x", url, meta={"apiFormat": "openai_chat", **meta})
    found = {"providers": {"x": row, "other": switch("other", "https://other.example")}}
    providers, omitted = taken_over("cc-switch", found)
    if taken == "":
        assert "x: its address is a whole endpoint that ends in /x/chat" in omitted
        assert list(providers) == ["other"]
    else:
        assert providers["x"]["base_url"] == (url if taken is None else taken)
        assert providers["x"]["format"] == "openai"


def test_cc_switch_s_further_ways_to_sign_in() -> None:
    found = {
        "providers": {
            "1": switch("copilot", "https://x.example", meta={"providerType": "github_copilot"}),
            "2": switch(
                "bound", "https://x.example", meta={"authBinding": {"source": "managed_account"}}
            ),
            "3": switch(
                "own",
                "https://own.example",
                meta={"apiKeyHeaderName": "x-token", "customUserAgent": "me/1"},
                env={"ANTHROPIC_MODEL": "big[1M]", "ANTHROPIC_DEFAULT_FABLE_MODEL": "f[1m]"},
            ),
        }
    }
    providers, omitted = taken_over("cc-switch", found)
    assert providers == {
        "own": {
            "base_url": "https://own.example",
            "api_key": "k",
            "model_mapping": {"*fable*": "f", "*": "big"},
            "auth_header": "x-token",
            "headers": {"User-Agent": "me/1"},
        }
    }
    assert "copilot: it uses an account" in omitted
    assert "bound: it uses an account" in omitted


def test_litellm_s_credentials_headers_and_what_has_no_place() -> None:
    def entry(alias: str, **params: Any) -> dict[str, Any]:
        return {"model_name": alias, "litellm_params": params}

    found = {
        "credential_list": [
            {
                "credential_name": "shared",
                "credential_values": {"api_key": "k", "api_base": "https://shared.example/v1"},
            }
        ],
        "model_list": [
            entry("a", model="openai/x", litellm_credential_name="shared", rpm=5),
            entry("a", model="openai/y", litellm_credential_name="shared"),
            entry(
                "b",
                model="vendor/z",
                custom_llm_provider="openai",
                litellm_credential_name="shared",
                extra_headers={"X-A": "1", "X-B": "os.environ/B"},
            ),
            entry("c", model="openai/z", litellm_credential_name="gone", api_base="os.environ/C"),
        ],
    }
    providers, omitted = taken_over("litellm", found)
    assert providers == {
        "openai": {
            "base_url": "https://shared.example/v1",
            "format": "openai",
            "api_key": "k",
            "model_mapping": {"a": "x", "b": "vendor/z", "*": "x"},
            "headers": {"X-A": "1"},
        }
    }
    for said in (
        "a: parameters (rpm)",
        "a: y at the same address",
        "b: headers that are in variables (X-B)",
        "c: its credential gone is not in the file",
        "its address is in the variable C",
    ):
        assert said in omitted
