"""Other programs' provider lists: what is carried over, and what is said to be left out."""

from typing import Any

import pytest

from ccfallback.core.foreign import PROGRAMS, Foreign, translated
from ccfallback.core.schema import parse
from ccfallback.errors import ConfigError

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
    foreign = translated(program, FILES[program])
    return foreign.providers, "\n".join(foreign.left_out)


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_taken_over_fits_the_schema(program: str) -> None:
    providers, _ = read(program)
    config = parse({"providers": providers}, formats=["anthropic", "openai"])
    assert len(config.providers) == len(providers)


def test_claude_code_router() -> None:
    providers, left_out = read("claude-code-router")
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
        {
            "name": "claude",
            "base_url": "https://claude.example/v1/messages",
            "api_key_env": "KEY",
        },
    ]
    for said in ("PROXY_URL", "google: its transformer gemini", "by think", "maxtoken", "spare"):
        assert said in left_out


def test_cc_switch() -> None:
    providers, left_out = read("cc-switch")
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
        assert said in left_out


def test_litellm_gives_one_provider_for_each_address_and_key() -> None:
    providers, left_out = read("litellm")
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
        assert said in left_out


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("found", [None, [], {}, "text", {"Providers": 5, "model_list": {}}])
def test_a_file_without_a_provider_is_refused(program: str, found: object) -> None:
    with pytest.raises(ConfigError, match="no provider"):
        translated(program, found)


def test_long_names_stay_valid_and_unique() -> None:
    foreign = Foreign()
    for name in ("x" * 99, "x" * 99, "anthropic-primary", "日本", None):
        foreign.add(name, {})
    names = [provider["name"] for provider in foreign.providers]
    assert names == ["x" * 64, f"{'x' * 62}-2", "anthropic-primary-2", "provider", "None"]
