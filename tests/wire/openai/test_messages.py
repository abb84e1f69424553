"""The conversation: roles, order, and a result for every call."""

from typing import Any

import pytest

from ccfallback.config.quirks import Quirks
from ccfallback.messages.thinking import mark

from .asked import assistant, brief, call, image, result, system, text, told, user

MISTRAL = Quirks(tool_id_style="mistral", user_after_tool=False)
DEEPSEEK = Quirks(reasoning_content="calls")


def thinking(value: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": value, "signature": "sig"}


def test_a_system_message_in_the_midst_becomes_a_reminder_of_the_user_before_it() -> None:
    messages = told(user("hi"), system(text("Reminder")))
    assert brief(messages) == [
        ("user", "hi\n\n<system-reminder>\nReminder\n</system-reminder>"),
    ]


def test_a_reminder_is_a_part_of_its_own_where_parts_are_understood() -> None:
    messages = told(user("hi"), system("Reminder"), quirks=Quirks(string_content=False))
    assert messages[0]["content"] == [
        text("hi"),
        text("<system-reminder>\nReminder\n</system-reminder>"),
    ]


def test_a_system_message_stays_where_the_provider_takes_it() -> None:
    messages = told(
        user("hi"), system("one"), system("two"), quirks=Quirks(system_inline=True), system="S"
    )
    assert brief(messages) == [("system", "S"), ("user", "hi"), ("system", "one\n\ntwo")]


def test_nothing_stands_between_calls_and_results_even_inline() -> None:
    messages = told(
        user("hi"),
        assistant(call("t1")),
        system("late"),
        user(result("t1", "ok")),
        quirks=Quirks(system_inline=True),
    )
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user"]


def test_a_system_message_that_was_cleared_is_gone_after_the_next_user_message() -> None:
    cleared = system("once", clear_at="next_user_message")
    assert "once" in str(told(user("a"), cleared))
    assert "once" not in str(told(user("a"), cleared, assistant("b"), user("c")))
    assert "once" in str(told(user("a"), system("once"), assistant("b"), user("c")))


def test_results_come_first_in_the_order_of_the_calls() -> None:
    messages = told(
        user("go"),
        assistant(text("ok"), call("t1"), call("t2")),
        user(text("note"), result("t2", "two"), result("t1", "one")),
    )
    assert brief(messages) == [
        ("user", "go"),
        ("assistant", "ok", ["t1", "t2"]),
        ("tool", "one", "t1"),
        ("tool", "two", "t2"),
        ("user", "note"),
    ]


def test_mistral_gets_ids_of_nine_letters_and_no_user_after_a_tool() -> None:
    messages = told(
        assistant(text("ok"), call("t1"), call("t2")),
        user(text("note"), result("t2", "two"), result("t1", "one"), image()),
        quirks=MISTRAL,
    )
    ids = [made["id"] for made in messages[0]["tool_calls"]]
    assert all(len(one) == 9 and one.isalnum() for one in ids)
    assert [message["tool_call_id"] for message in messages[1:]] == ids
    assert messages[-1]["content"] == "two\n\nnote\n\n[image omitted: image/png]"


def test_a_call_without_a_result_gets_one() -> None:
    messages = told(assistant(call("t1")), user("and now?"))
    assert brief(messages)[1:] == [("tool", "[no result]", "t1"), ("user", "and now?")]
    assert brief(told(assistant(call("t1"))))[1:] == [("tool", "[no result]", "t1")]


def test_a_result_without_a_call_becomes_the_users_words() -> None:
    assert brief(told(user(result("t9", "data")))) == [("user", "[tool result t9] data")]
    late = told(assistant(call("t1")), user("x"), assistant("y"), user(result("t1", "late")))
    assert brief(late)[-1] == ("user", "[tool result t1] late")


def test_two_calls_that_share_an_id_get_one_each() -> None:
    messages = told(assistant(call("t"), call("t")), user(result("t", "a"), result("t", "b")))
    assert brief(messages) == [
        ("assistant", ["t", "t_2"]),
        ("tool", "a", "t"),
        ("tool", "b", "t_2"),
    ]


def test_a_second_result_for_a_call_is_not_lost() -> None:
    messages = told(assistant(call("t")), user(result("t", "a"), result("t", "b")))
    assert brief(messages)[1:] == [("tool", "a", "t"), ("user", "[tool result t] b")]


def test_messages_of_one_role_become_one() -> None:
    messages = told(
        user("a"), user("b"), assistant(text("c")), assistant(call("t")), user(result("t", "d"))
    )
    assert brief(messages) == [
        ("user", "a\n\nb"),
        ("assistant", "c", ["t"]),
        ("tool", "d", "t"),
    ]


def test_users_become_one_when_nothing_is_left_between_them() -> None:
    assert brief(told(user("a"), assistant(thinking("hm")), user("b"))) == [("user", "a\n\nb")]


@pytest.mark.parametrize(
    ("quirks", "content"), [(Quirks(), None), (Quirks(null_content=False), "")]
)
def test_a_message_that_is_only_calls_has_no_content(quirks: Quirks, content: object) -> None:
    assert told(assistant(call("t")), quirks=quirks)[0]["content"] == content


def test_arguments_keep_their_order_and_their_letters() -> None:
    messages = told(assistant(call("t", b=1, a="é漢")))
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == '{"b":1,"a":"é漢"}'


@pytest.mark.parametrize("given", [None, "text", 3])
def test_arguments_are_always_an_object(given: Any) -> None:
    messages = told(assistant({"type": "tool_use", "id": "t", "name": "Bash", "input": given}))
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_thinking_stays_behind() -> None:
    messages = told(
        user("q"), assistant(thinking("T"), call("t")), assistant({"type": "redacted_thinking"})
    )
    assert "T" not in str(messages[1:2])
    assert "reasoning_content" not in messages[1]


@pytest.mark.parametrize("value", ["T", ""])
def test_thinking_goes_back_where_it_is_wanted(value: str) -> None:
    messages = told(assistant(thinking(value), call("t")), quirks=DEEPSEEK)
    assert messages[0]["reasoning_content"] == value


@pytest.mark.parametrize(("which", "has"), [("calls", [1, 2]), ("all", [0, 1, 2])])
def test_thinking_goes_back_on_the_messages_that_must_have_it(which: str, has: list[int]) -> None:
    messages = told(
        assistant("a"),
        user("q"),
        assistant(call("t")),
        user(result("t", "r")),
        assistant("b"),
        user("q"),
        quirks=Quirks(reasoning_content=which),
    )
    said = [message for message in messages if message["role"] == "assistant"]
    assert [index for index, one in enumerate(said) if "reasoning_content" in one] == has


def test_openrouter_gets_its_details_back_and_nobody_else() -> None:
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    block = {**thinking("T"), "signature": mark("T", {"reasoning_details": details})}
    history = (assistant(block, call("t")), user(result("t", "r")), assistant(thinking("T"), "x"))
    messages = told(*history, quirks=Quirks(reasoning="openrouter"))
    assert messages[0]["reasoning_details"] == details
    assert "reasoning_details" not in str(messages[1:])
    assert "reasoning_details" not in str(told(*history))


def test_gemini_is_told_that_a_call_comes_from_elsewhere() -> None:
    history = (assistant(call("t1"), call("t2")), user(result("t1"), result("t2")))
    first, second = told(*history, quirks=Quirks(thought_signature=True))[0]["tool_calls"]
    assert first["extra_content"]["google"]["thought_signature"]
    assert "extra_content" not in second
    assert "extra_content" not in str(told(*history))


@pytest.mark.parametrize("way", ["plain", "prefix", "partial"])
def test_an_answer_that_is_to_be_continued_ends_without_space(way: str) -> None:
    last = told(user("q"), assistant("Sure: \n"), quirks=Quirks(prefill=way))[-1]
    expected = {"role": "assistant", "content": "Sure:"}
    assert last == (expected if way == "plain" else {**expected, way: True})


def test_a_compaction_is_told_by_the_user() -> None:
    messages = told(
        assistant({"type": "compaction", "content": "we met"}, text("and so")), user("go on")
    )
    assert brief(messages) == [
        ("user", "Summary of earlier conversation: we met"),
        ("assistant", "and so"),
        ("user", "go on"),
    ]
    assert brief(told(assistant({"type": "compaction", "content": None}), user("x"))) == [
        ("user", "x")
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("plain", [("user", "plain"), ("user", "end")]),
        ([], [("user", "end")]),
        (None, [("user", "end")]),
        ([{"text": "no type"}, "no object", text(" \n")], [("user", "end")]),
        ([{"type": "connector_text", "text": "x"}], [("user", "end")]),
    ],
)
def test_content_of_any_form_is_read(content: Any, expected: list[Any]) -> None:
    messages = told({"role": "user", "content": content}, assistant("ok"), user("end"))
    said = [message for message in brief(messages) if message[0] == "user"]
    assert said == expected
