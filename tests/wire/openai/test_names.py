"""Ids: valid for both sides, and the same again without any memory."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.wire.openai.names import client_tool_id, provider_tool_id


@pytest.mark.parametrize(
    ("tool_id", "style", "form"),
    [
        ("toolu_01", "short", r"toolu_01"),
        ("toolu_01", "keep", r"toolu_01"),
        ("x" * 41, "keep", r"x{41}"),
        ("x" * 41, "short", r"call_[A-Za-z0-9]{24}"),
        ("toolu_01", "mistral", r"[A-Za-z0-9]{9}"),
        ("AbCdEf123", "mistral", r"AbCdEf123"),
    ],
)
def test_an_id_fits_the_provider(tool_id: str, style: str, form: str) -> None:
    sent = provider_tool_id(tool_id, style)
    assert re.fullmatch(form, sent)
    assert provider_tool_id(tool_id, style) == sent


def test_an_id_fits_the_client() -> None:
    taken: set[str] = set()
    assert client_tool_id("call_1", taken, "s") == "call_1"
    assert client_tool_id("functions.Bash:0", taken, "s") == "functions_Bash_0"
    missing = client_tool_id(None, taken, "s")
    again = client_tool_id("call_1", taken, "s")
    assert all(re.fullmatch(r"toolu_[A-Za-z0-9]{24}", made) for made in (missing, again))
    assert len(taken) == 4
    assert client_tool_id(None, set(), "s") != client_tool_id(None, set(), "t")


@given(st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=300))), st.text())
def test_ids_for_the_client_are_valid_distinct_and_the_same_again(
    raw: list[object], seed: str
) -> None:
    first: set[str] = set()
    made = [client_tool_id(one, first, seed) for one in raw]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", one) for one in made)
    assert len(set(made)) == len(made)
    again: set[str] = set()
    assert [client_tool_id(one, again, seed) for one in raw] == made
