"""Quirks: every switch has a check and a description, and a default that passes its own check."""

from dataclasses import fields
from typing import Any

import pytest

from ccfallback.config import checks
from ccfallback.config.quirks import ABOUT, CHECKS, Quirks

NAMES = [field.name for field in fields(Quirks)]


def test_every_switch_has_a_check_and_a_description() -> None:
    assert list(CHECKS) == NAMES
    assert list(ABOUT) == NAMES
    assert all(text and text == text.strip() and "\n" not in text for text in ABOUT.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_default_passes_its_own_check(name: str) -> None:
    default = getattr(Quirks(), name)
    if default is not None:
        assert CHECKS[name](default) == default


@pytest.mark.parametrize("name", NAMES)
def test_what_a_switch_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(checks.Expected):
        CHECKS[name]([])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_output_tokens", 0),
        ("stop_limit", -1),
        ("reasoning", "always"),
        ("schema", ""),
        ("images", 1),
        ("extra_body", "x"),
    ],
)
def test_a_value_out_of_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(checks.Expected):
        CHECKS[name](value)


def test_unknown_providers_are_asked_for_nothing_that_some_refuse() -> None:
    quirks = Quirks()
    assert quirks.reasoning == "none"
    assert quirks.reasoning_content == "drop"
    assert quirks.max_tokens_field == "max_tokens"
    assert not quirks.cache_control
    assert not quirks.system_inline
    assert not quirks.extra_body
