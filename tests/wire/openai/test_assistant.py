"""What Anthropic's own tools did, in words."""

from typing import Any

import pytest

from ccfallback.wire.openai.assistant import summary_of

from .asked import assistant, brief, call, told


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"type": "server_tool_use", "name": "web_search", "input": {"query": "q"}},
            '[web_search "q"]',
        ),
        (
            {"type": "mcp_tool_use", "server_name": "s", "name": "n", "input": {"a": 1}},
            '[s.n {"a":1}]',
        ),
        ({"type": "server_tool_use"}, "[tool]"),
        (
            {
                "type": "web_search_tool_result",
                "content": [
                    {"type": "web_search_result", "title": "T", "url": "u"},
                    {"type": "web_search_result", "url": "v"},
                ],
            },
            "[web_search result]\n- T (u)\n- v",
        ),
        (
            {
                "type": "code_execution_tool_result",
                "content": {"type": "code_execution_result", "stdout": "1\n", "stderr": ""},
            },
            "[code_execution result]\n1\n",
        ),
        (
            {
                "type": "web_fetch_tool_result",
                "content": {"type": "web_fetch_tool_result_error", "error_code": "unavailable"},
            },
            "[web_fetch result]\nunavailable",
        ),
        ({"type": "mcp_tool_result", "content": "done"}, "[mcp result]\ndone"),
        ({"type": "fallback"}, ""),
        ({"type": 3}, ""),
    ],
)
def test_a_server_tool_is_told_in_words(block: Any, expected: str) -> None:
    assert summary_of(block) == expected


def test_a_server_tool_is_never_a_call() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    assert brief(told(assistant(block, call("t"))))[0] == ("assistant", '[web_search "q"]', ["t"])
