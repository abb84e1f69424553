"""The provider's own names of models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import mapped_model

MAPPING = {
    "claude-opus-5-5": "exact",
    "claude-*": "short glob",
    "claude-sonnet-*": "long glob",
    "claude-haiku-4-5[1m]": "exact with mark",
    "claude-fable-*[1m]": "glob with mark",
}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-opus-5-5", "exact"),
        ("claude-opus-5-5[1m]", "exact"),
        ("claude-opus-5-6", "short glob"),
        ("claude-opus-5-6[1m]", "short glob"),
        ("claude-sonnet-5-5", "long glob"),
        ("claude-sonnet-5-5[1m]", "long glob"),
        ("claude-haiku-4-5[1m]", "exact with mark"),
        ("claude-haiku-4-5", "short glob"),
        ("claude-fable-5[1m]", "glob with mark"),
        ("claude-fable-5-1", "short glob"),
        ("Claude-opus-5-5", "Claude-opus-5-5"),
        ("gpt", "gpt"),
        ("gpt[1m]", "gpt[1m]"),
        ("", ""),
    ],
)
def test_a_model_by_the_providers_name(model: str, name: str) -> None:
    assert mapped_model(model, MAPPING) == name


def test_a_catch_all_loses_to_everything() -> None:
    assert mapped_model("a-b", {"*": "all", "a*": "some"}) == "some"
    assert mapped_model("", {"*": "all"}) == "all"


@given(model=st.text(max_size=10), globs=st.dictionaries(st.text(max_size=6), st.just("to")))
def test_any_mapping_gives_a_name(model: str, globs: dict[str, str]) -> None:
    assert mapped_model(model, globs) in ("to", model)
    assert mapped_model(model, {**globs, model: "exact"}) == "exact"
