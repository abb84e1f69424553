"""Presets: each row makes a provider that the configuration accepts."""

from typing import Any

import pytest

from ccfallback.config import checks
from ccfallback.config.model import Provider
from ccfallback.config.options import options
from ccfallback.config.presets import Preset, presets
from ccfallback.config.quirks import Quirks
from ccfallback.wire import FORMATS

LEAVES = {
    "anthropic": "/v1/messages",
    "openai": "/chat/completions",
    "vertex": ":streamrawpredict",
    "bedrock": "/model/m/invoke-with-response-stream",
}
ROWS = [pytest.param(preset, id=name) for name, preset in presets().items()]


@pytest.mark.parametrize("preset", ROWS)
def test_a_row_passes_the_checks_of_the_configuration(preset: Preset) -> None:
    assert checks.provider_name(preset.name) == preset.name
    filled = preset.url(**dict.fromkeys(preset.placeholders, "mine"))
    assert checks.http_url(filled) == filled
    assert checks.header_name(preset.auth_header) == preset.auth_header
    assert checks.text_map(preset.models) == dict(preset.models)
    assert checks.note(preset.note) == preset.note
    assert preset.title
    window = next(row for row in options(Provider) if row.key == "context_window")
    assert preset.context_window is None or window.accepts(preset.context_window)


@pytest.mark.parametrize("preset", ROWS)
def test_the_quirks_of_a_row_are_quirks(preset: Preset) -> None:
    checks = {row.key: row.check for row in options(Quirks)}
    quirks: dict[str, Any] = {name: checks[name](value) for name, value in preset.quirks.items()}
    assert Quirks(**quirks)
    assert preset.format == "openai" or not quirks


@pytest.mark.parametrize("preset", ROWS)
def test_the_url_of_a_row_leads_to_an_endpoint_of_its_format(preset: Preset) -> None:
    filled = preset.url(**dict.fromkeys(preset.placeholders, "mine"))
    provider = Provider(name="p", base_url=filled, format=preset.format)
    url = FORMATS[preset.format].url(provider, "m", stream=True)
    assert url.lower().endswith(LEAVES[preset.format])
    assert url.count("/v1") <= (2 if preset.name == "claude-google-cloud" else 1)
    assert "{" not in url


@pytest.mark.parametrize("preset", ROWS)
def test_the_prompt_for_a_key_says_where_to_get_one(preset: Preset) -> None:
    assert bool(preset.key_env) == bool(preset.key_url)
    is_local = "//localhost" in preset.base_url
    assert bool(preset.key_env) == (not is_local) or preset.auth == "google"
    if preset.key_url:
        assert checks.http_url(preset.key_url).startswith("https://")
    assert preset.base_url.startswith("http://localhost" if is_local else "https://")


@pytest.mark.parametrize("preset", ROWS)
def test_all_models_have_a_name_at_the_provider_or_none(preset: Preset) -> None:
    assert not preset.models or "*" in preset.models


def test_a_window_is_known_only_where_the_models_are() -> None:
    known = {name: each.context_window for name, each in presets().items() if each.context_window}
    assert known["groq"] == 131_072
    assert known["deepseek"] == known["deepseek-openai"]
    for name in known:
        assert presets()[name].models
        # A local server has the window that its user gives it.
        assert "//localhost" not in presets()[name].base_url


def test_a_placeholder_is_named_and_filled_in() -> None:
    azure = presets()["azure"]
    assert azure.placeholders == ("resource",)
    assert azure.url(resource="mine") == "https://mine.openai.azure.com/openai/v1"
    assert azure.url() == azure.base_url
    assert presets()["openai"].placeholders == ()
