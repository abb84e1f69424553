"""Random conversations in which a rule is broken come out valid, and are answered.

Through the whole chain: over real sockets, to a provider that finds one fault at a time.
"""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfallback.simulator import scripted
from tests.conftest import Chain
from tests.rectify.drafts import (
    MARK,
    TOOLS,
    assistant,
    call,
    conversations,
    result,
    server_call,
    server_result,
    text,
    tool,
    user,
)
from tests.server.strict_api import ALTERNATING, MOST_TOKENS, held_to_the_rules, refusals

OVERLOADED = scripted.error(529, "overloaded_error")

Body = dict[str, Any]
Block = dict[str, Any]
Break = Callable[[Body, st.DataObject], Body]


def each_block(body: Body, change: Callable[[Block], list[Block]]) -> Body:
    """A body in which each block is what `change` makes of it."""
    messages = [
        {**message, "content": [new for block in message["content"] for new in change(block)]}
        if isinstance(message["content"], list)
        else message
        for message in body["messages"]
    ]
    return {**body, "messages": messages}


def with_last(body: Body, *messages: Body) -> Body:
    return {**body, "messages": [*body["messages"], *messages]}


def with_first(body: Body, *messages: Body) -> Body:
    return {**body, "messages": [*messages, *body["messages"]]}


def lost_results(body: Body, data: st.DataObject) -> Body:
    def change(block: Block) -> list[Block]:
        if block["type"] != "tool_result" or data.draw(st.booleans()):
            return [block]
        return [text("interrupted")]

    return each_block(body, change)


def late_results(body: Body, _data: st.DataObject) -> Body:
    asked = with_first(body, user(text("a")), assistant(call("late")), user(text("wait")))
    return with_last(asked, assistant(text("now")), user(result("late")))


def texts_before_results(body: Body, _data: st.DataObject) -> Body:
    messages = []
    for message in body["messages"]:
        content = message["content"]
        is_answer = message["role"] == "user" and isinstance(content, list)
        messages.append({**message, "content": content[::-1]} if is_answer else message)
    return {**body, "messages": messages}


def results_of_no_call(body: Body, _data: st.DataObject) -> Body:
    return with_last(body, assistant(text("so")), user(result("nobody"), text("on")))


def the_same_id_twice(body: Body, _data: st.DataObject) -> Body:
    turn = (assistant(call("same")), user(result("same")))
    return with_first(body, user(text("a")), *turn, *turn)


def ids_of_others(body: Body, data: st.DataObject) -> Body:
    mark = data.draw(st.sampled_from([".", ":", "é", " "]))

    def change(block: Block) -> list[Block]:
        if block["type"] == "tool_use":
            return [{**block, "id": block["id"] + mark}]
        if block["type"] == "tool_result":
            return [{**block, "tool_use_id": block["tool_use_id"] + mark}]
        return [block]

    calls = (assistant(call("first")), user(result("first")))
    return each_block(with_first(body, user(text("a")), *calls), change)


def server_ids_of_others(body: Body, _data: st.DataObject) -> Body:
    answer = assistant(server_call("web-1"), server_result("web-1"), text("found"))
    return with_last(body, answer, user(text("on")))


def half_a_server_call(body: Body, data: st.DataObject) -> Body:
    half = data.draw(st.sampled_from([server_call, server_result]))
    return with_last(body, assistant(half("srvtoolu_9"), text("found")), user(text("on")))


def tools_twice(body: Body, _data: st.DataObject) -> Body:
    return {**body, "tools": [*TOOLS, TOOLS[0]]}


def names_nobody_takes(body: Body, data: st.DataObject) -> Body:
    name = data.draw(st.sampled_from(["a.b", "x" * 80, "é"]))
    return {**body, "tools": [*TOOLS, tool(name), tool("a_b")]}


def clever_schemas(body: Body, data: st.DataObject) -> Body:
    schemas: list[dict[str, Any]] = [{"anyOf": [{"required": ["a"]}]}, {"type": "string"}]
    schema = data.draw(st.sampled_from(schemas))
    return {**body, "tools": [*TOOLS, tool("Clever", **schema)]}


def no_tools(body: Body, _data: st.DataObject) -> Body:
    calls = (assistant(call("first")), user(result("first")))
    return {**with_first(body, user(text("a")), *calls), "tools": []}


def empty_texts(body: Body, data: st.DataObject) -> Body:
    blank = data.draw(st.sampled_from(["", " ", "\n\n"]))
    return with_last(body, assistant(text(blank)), user(text(blank), text("on")))


def too_many_marks(body: Body, data: st.DataObject) -> Body:
    def change(block: Block) -> list[Block]:
        return [block if block["type"] == "thinking" else {**block, **MARK}]

    longer = with_last(body, assistant(text("a"), text("b")), user(text("c"), text("d")))
    marked = {**longer, "tools": [{**each, **MARK} for each in TOOLS]}
    return each_block(marked, change)


def lifetimes_in_no_order(body: Body, _data: st.DataObject) -> Body:
    long = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    return {**with_last(body, user(text("a", **long))), "system": [text("s", **MARK)]}


def a_begun_answer(body: Body, data: st.DataObject) -> Body:
    return with_last(body, assistant(text(data.draw(st.sampled_from(["{", "Well, I ", "So:\n"])))))


def the_assistant_first(body: Body, _data: st.DataObject) -> Body:
    return with_first(body, assistant(text("Hello.")))


def foreign_thinking(body: Body, data: st.DataObject) -> Body:
    thought = {"type": "thinking", "thinking": "hm", "signature": "of somebody else"}
    asked = data.draw(st.sampled_from([{}, {"thinking": {"type": "enabled", "budget_tokens": 9}}]))
    answer = assistant(thought, call("last"))
    return {**with_last(body, answer, user(result("last"))), **asked}


def no_room_to_think(body: Body, _data: st.DataObject) -> Body:
    thinking = {"type": "enabled", "budget_tokens": 5000}
    return {**with_last(body, user(text("on"))), "thinking": thinking, "max_tokens": 4000}


def more_than_it_gives(body: Body, data: st.DataObject) -> Body:
    thinking = {"type": "enabled", "budget_tokens": data.draw(st.sampled_from([2000, 20000]))}
    more = {"thinking": thinking, "max_tokens": MOST_TOKENS * 4}
    return {**with_last(body, user(text("on"))), **more}


BREAKS: tuple[Break, ...] = (
    lost_results,
    late_results,
    texts_before_results,
    results_of_no_call,
    the_same_id_twice,
    ids_of_others,
    server_ids_of_others,
    half_a_server_call,
    tools_twice,
    names_nobody_takes,
    clever_schemas,
    no_tools,
    empty_texts,
    too_many_marks,
    lifetimes_in_no_order,
    a_begun_answer,
    the_assistant_first,
    foreign_thinking,
    no_room_to_think,
    more_than_it_gives,
)

EXAMPLES = 3
"""For each rule: every one goes over sockets, several times."""


@pytest.mark.parametrize("broken", BREAKS, ids=lambda each: each.__name__)
def test_a_broken_conversation_is_repaired_and_answered(
    chain: Callable[..., Chain], broken: Break
) -> None:
    running = chain(OVERLOADED, held_to_the_rules(scripted.reply("served")))
    examples = 0

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(conversations(), st.booleans(), st.data())
    def story(body: Body, alternating: bool, data: st.DataObject) -> None:
        nonlocal examples
        examples += 1
        # Of another model each time, so that what one teaches is not made before the next.
        model = f"m{examples}-{ALTERNATING if alternating else 'lenient'}"
        asked = {**broken({**body, "max_tokens": 1000}, data), "model": model}
        running.fallback.received.clear()
        answer = httpx.post(f"{running.url}/v1/messages", json=asked)
        said = [list(refusals(request.json)) for request in running.fallback.received]
        assert answer.status_code == 200, (said, asked)
        assert "served" in answer.text
        assert not said[-1]

    story()
    assert examples >= EXAMPLES
