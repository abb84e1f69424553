"""Wishes that have other names elsewhere."""

from typing import Any

import pytest

from ccfallback.rectify.parameters import PARAMETERS
from tests.rectify.drafts import after, draft, refused

UNSUPPORTED = "Unsupported parameter: '{}' is not supported with this model."


@pytest.mark.parametrize(
    ("name", "given", "left"),
    [
        ("stop", {"stop_sequences": ["a"]}, {}),
        ("stop_sequences", {"stop_sequences": ["a"]}, {}),
        ("user", {"metadata": {"user_id": "a"}}, {}),
        ("user", {"metadata": {"user_id": "a", "b": 1}}, {"metadata": {"b": 1}}),
        (
            "parallel_tool_calls",
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            {"tool_choice": {"type": "auto"}},
        ),
    ],
)
def test_it_goes_by_the_clients_name(name: str, given: Any, left: Any) -> None:
    now = after(PARAMETERS, draft(**given), UNSUPPORTED.format(name))
    assert {key: now[key] for key in now if key not in ("model", "max_tokens", "messages")} == left


def test_nothing_to_do() -> None:
    assert refused(PARAMETERS, draft(), UNSUPPORTED.format("stop"))
    assert refused(PARAMETERS, draft(stop_sequences=["a"]), UNSUPPORTED.format("max_tokens"))
