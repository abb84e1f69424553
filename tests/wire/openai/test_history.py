"""The conversation as Chat Completions messages."""

from typing import Any

import msgspec
import pytest

from ccfallback.config.quirks import Quirks
from ccfallback.messages.assemble import to_message
from ccfallback.messages.server_tools import server_tool_words
from ccfallback.messages.thinking import mark
from ccfallback.wire.openai.history import to_parts

from .asked import assistant, brief, call, image, result, system, text, told, user
from .upstream import DONE, NOT_THINKING, calls, chunk, piece, translate

MISTRAL = Quirks(tool_id_style="mistral", user_after_tool=False)
DEEPSEEK = Quirks(reasoning_content="calls")


def thinking(value: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": value, "signature": "sig"}


def test_a_system_message_becomes_a_reminder_in_the_user_message() -> None:
    messages = told(user("hi"), system(text("Reminder")))
    assert brief(messages) == [
        ("user", "hi\n\n<system-reminder>\nReminder\n</system-reminder>"),
    ]


def test_a_reminder_is_a_part_of_its_own_if_parts_are_allowed() -> None:
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


def test_a_cleared_system_message_is_dropped() -> None:
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


def test_mistral_gets_short_ids_and_no_user_message_after_a_tool() -> None:
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


def test_a_result_without_a_call_becomes_text() -> None:
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


def test_adjacent_messages_of_one_role_are_joined() -> None:
    messages = told(
        user("a"), user("b"), assistant(text("c")), assistant(call("t")), user(result("t", "d"))
    )
    assert brief(messages) == [
        ("user", "a\n\nb"),
        ("assistant", "c", ["t"]),
        ("tool", "d", "t"),
    ]


def test_user_messages_are_joined_over_a_dropped_message() -> None:
    assert brief(told(user("a"), assistant(thinking("hm")), user("b"))) == [("user", "a\n\nb")]


@pytest.mark.parametrize(
    ("quirks", "content"), [(Quirks(), None), (Quirks(null_content=False), "")]
)
def test_a_message_that_is_only_calls_has_no_content(quirks: Quirks, content: object) -> None:
    assert told(assistant(call("t")), quirks=quirks)[0]["content"] == content


def test_arguments_keep_order_and_characters() -> None:
    messages = told(assistant(call("t", b=1, a="é漢")))
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == '{"b":1,"a":"é漢"}'


@pytest.mark.parametrize("given", [None, "text", 3])
def test_arguments_are_always_an_object(given: Any) -> None:
    messages = told(assistant({"type": "tool_use", "id": "t", "name": "Bash", "input": given}))
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == "{}"


def test_thinking_is_not_sent_by_default() -> None:
    messages = told(
        user("q"), assistant(thinking("T"), call("t")), assistant({"type": "redacted_thinking"})
    )
    assert "T" not in str(messages[1:2])
    assert "reasoning_content" not in messages[1]


@pytest.mark.parametrize("value", ["T", ""])
def test_thinking_is_sent_if_the_provider_wants_it(value: str) -> None:
    messages = told(assistant(thinking(value), call("t")), quirks=DEEPSEEK)
    assert messages[0]["reasoning_content"] == value


@pytest.mark.parametrize(("which", "has"), [("calls", [1, 2]), ("all", [0, 1, 2])])
def test_thinking_is_sent_with_the_messages_that_need_it(which: str, has: list[int]) -> None:
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


def test_only_openrouter_gets_its_details_back() -> None:
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    block = {**thinking("T"), "signature": mark("T", {"reasoning_details": details})}
    history = (assistant(block, call("t")), user(result("t", "r")), assistant(thinking("T"), "x"))
    messages = told(*history, quirks=Quirks(reasoning="openrouter"))
    assert messages[0]["reasoning_details"] == details
    assert "reasoning_details" not in str(messages[1:])
    assert "reasoning_details" not in str(told(*history))


def test_a_call_without_geminis_signature_is_marked() -> None:
    history = (assistant(call("t1"), call("t2")), user(result("t1"), result("t2")))
    first, second = told(*history, quirks=Quirks(thought_signature=True))[0]["tool_calls"]
    assert first["extra_content"]["google"]["thought_signature"]
    assert "extra_content" not in second
    assert "extra_content" not in str(told(*history))


def test_geminis_signatures_go_back_with_their_calls() -> None:
    reads = [
        calls({**piece(0, "c1", "Bash", "{}"), **signature("sig-1")}),
        calls(piece(1, "c2", "Read", "{}")),
    ]
    answer = to_message(translate(*reads, chunk({}, "stop"), DONE).out)
    content = msgspec.json.decode(answer)["content"]
    assert [block["type"] for block in content] == ["thinking", "tool_use", "tool_use"]
    asked_again = (assistant(*content), user(result("c1"), result("c2")))
    first, second = told(*asked_again, quirks=Quirks(thought_signature=True))[0]["tool_calls"]
    assert first["extra_content"] == signature("sig-1")["extra_content"]
    assert "extra_content" not in second
    # At another provider it means nothing.
    assert "sig-1" not in str(told(*asked_again))
    # Two answers in one turn: each call has the signature of its own.
    other = to_message(
        translate(
            calls({**piece(0, "c3", "Bash", "{}"), **signature("sig-2")}), chunk({}, "stop"), DONE
        ).out
    )
    both = (*content, *msgspec.json.decode(other)["content"])
    turn = told(assistant(*both), quirks=Quirks(thought_signature=True))[0]["tool_calls"]
    assert [each.get("extra_content") for each in turn] == [
        signature("sig-1")["extra_content"],
        None,
        signature("sig-2")["extra_content"],
    ]


@pytest.mark.parametrize(
    "extra", [{}, [], "x", {"google": {}}, {"google": {"thought_signature": 3}}]
)
def test_what_is_not_geminis_signature_is_not_kept(extra: Any) -> None:
    call_piece = {**piece(0, "c1", "Bash", "{}"), "extra_content": extra}
    content = translate(calls(call_piece), chunk({}, "stop"), DONE).blocks
    assert [block[0] for block in content] == ["tool_use"]


def test_a_client_without_thinking_gets_no_block_for_a_signature() -> None:
    call_piece = {**piece(0, "c1", "Bash", "{}"), **signature("sig-1")}
    read = translate(calls(call_piece), chunk({}, "stop"), DONE, client_body=NOT_THINKING)
    assert [block[0] for block in read.blocks] == ["tool_use"]


def signature(text: str) -> dict[str, Any]:
    return {"extra_content": {"google": {"thought_signature": text}}}


@pytest.mark.parametrize("way", ["plain", "prefix", "partial"])
def test_a_prefill_ends_without_space(way: str) -> None:
    last = told(user("q"), assistant("Sure: \n"), quirks=Quirks(prefill=way))[-1]
    expected = {"role": "assistant", "content": "Sure:"}
    assert last == (expected if way == "plain" else {**expected, way: True})


def test_a_compaction_becomes_a_user_message() -> None:
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


PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}


def document(source: Any, **members: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **members}


def one_text(block: Any, quirks: Quirks = Quirks()) -> str:  # noqa: B008
    (part,) = to_parts([block], quirks)
    assert part["type"] == "text"
    return str(part["text"])


@pytest.mark.parametrize(("title", "name"), [("", "document.pdf"), ("Plan.pdf", "Plan.pdf")])
def test_a_pdf_goes_by_its_url_where_the_provider_reads_it(title: str, name: str) -> None:
    block = document({"type": "url", "url": "https://x.example/p"}, title=title, context="why")
    file, context = to_parts([block], Quirks(pdf_url=True))
    assert file["file"] == {"filename": name, "file_data": "https://x.example/p"}
    assert context["text"] == "why"
    # A URL alone is enough, and none is a note.
    assert one_text(document({"type": "url", "url": ""}), Quirks(pdf_url=True)).startswith("[")
    assert one_text(block, Quirks(pdf=True)).startswith("[document omitted")


@pytest.mark.parametrize(
    ("source", "url"),
    [
        (
            {"type": "base64", "media_type": "image/gif", "data": "A A\n"},
            "data:image/gif;base64,AA",
        ),
        ({"type": "url", "url": "https://x.y/z.png"}, "https://x.y/z.png"),
    ],
)
def test_an_image_is_a_url(source: Any, url: str) -> None:
    parts = to_parts([{"type": "image", "source": source}], Quirks())
    assert parts == [{"type": "image_url", "image_url": {"url": url}}]


@pytest.mark.parametrize(
    ("block", "quirks", "note"),
    [
        (image(), Quirks(images=False), "[image omitted: image/png]"),
        ({"type": "image"}, Quirks(), "[image omitted]"),
        (
            {"type": "image", "source": {"type": "file", "file_id": "f1"}},
            Quirks(),
            "[image omitted: file f1]",
        ),
        (document(PDF), Quirks(), "[PDF omitted]"),
        (document(PDF, title="Plan"), Quirks(), "[PDF omitted: Plan]"),
        (
            document({"type": "url", "url": "https://x.y/z.pdf"}),
            Quirks(pdf=True),
            "[document omitted: https://x.y/z.pdf]",
        ),
        (
            document({"type": "file", "file_id": "f1"}, title="Plan"),
            Quirks(),
            "[document omitted: Plan, f1]",
        ),
    ],
)
def test_attachments_that_cannot_be_sent_become_notes(
    block: Any, quirks: Quirks, note: str
) -> None:
    assert one_text(block, quirks) == note


def test_a_text_document_starts_with_its_title() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "Once"}
    assert one_text(document(source, title="Tale", context="old")) == "Tale\n\nold\n\nOnce"
    assert one_text(document({"type": "content", "content": "Once"})) == "Once"


def test_a_document_of_blocks_is_its_blocks() -> None:
    block = document({"type": "content", "content": [text("a"), image()]}, title="Tale")
    kinds = [part["type"] for part in to_parts([block], Quirks())]
    assert kinds == ["text", "text", "image_url"]


@pytest.mark.parametrize(
    ("title", "name"), [("Plan", "Plan.pdf"), ("a.pdf", "a.pdf"), ("", "document.pdf")]
)
def test_a_pdf_is_sent_if_the_provider_takes_files(title: str, name: str) -> None:
    assert to_parts([document(PDF, title=title)], Quirks(pdf=True)) == [
        {
            "type": "file",
            "file": {"filename": name, "file_data": "data:application/pdf;base64,JVBE"},
        }
    ]


def test_a_search_result_becomes_text() -> None:
    block = {"type": "search_result", "title": "T", "source": "u", "content": [text("x")]}
    assert one_text(block) == "T\nu\nx"


def test_cache_marks_are_kept_only_with_the_quirk() -> None:
    block = text("x", cache_control={"type": "ephemeral", "ttl": "1h", "scope": "global"})
    assert to_parts([block], Quirks()) == [text("x")]
    assert to_parts([block], Quirks(cache_control=True)) == [
        text("x", cache_control={"type": "ephemeral"})
    ]


@pytest.mark.parametrize(
    "block",
    [{}, {"type": "fallback"}, {"type": []}, {"type": "text"}, {"type": "text", "text": " \n"}],
)
def test_empty_blocks_are_dropped(block: Any) -> None:
    assert to_parts([block], Quirks()) == []


def answered(*blocks: Any, quirks: Quirks = Quirks()) -> Any:  # noqa: B008
    return told(assistant(call("t1"), call("t2")), user(*blocks), quirks=quirks)[1:]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (result("t1", "fine"), "fine"),
        (result("t1", [text("a"), text("b")]), "a\nb"),
        (result("t1", "boom", is_error=True), "Error: boom"),
        (result("t1", "error: boom", is_error=True), "error: boom"),
        (result("t1"), "(no output)"),
        (result("t1", []), "(no output)"),
        (result("t1", " "), "(no output)"),
        (result("t1", is_error=True), "Error: (no output)"),
        (
            result("t1", [{"type": "tool_reference", "tool_name": "X"}]),
            "Tool X is available.",
        ),
    ],
)
def test_the_text_of_a_result(block: Any, expected: str) -> None:
    assert answered(block)[0] == {"role": "tool", "tool_call_id": "t1", "content": expected}


def test_an_image_follows_after_the_last_result() -> None:
    messages = answered(result("t1", [text("a"), image("AB\nCD")]), text("note"), result("t2", "b"))
    assert [message["role"] for message in messages] == ["tool", "tool", "user"]
    assert messages[0]["content"] == "a\n[image 1 attached below]"
    assert messages[2]["content"] == [
        text("[image 1 of tool result t1, Bash]"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,ABCD"}},
        text("note"),
    ]


def test_an_image_in_a_result_becomes_a_note_if_nothing_may_follow() -> None:
    block = result("t1", [text("a"), image()])
    assert answered(block, quirks=Quirks(user_after_tool=False))[0]["content"] == (
        "a\n[image omitted: image/png]"
    )


def test_an_image_in_a_result_becomes_a_note_without_images() -> None:
    block = result("t1", [text("a"), image()])
    messages = answered(block, quirks=Quirks(images=False))
    assert messages[0]["content"] == "a\n[image omitted: image/png]"
    assert messages[-1]["role"] == "tool"


def test_a_cache_mark_on_a_result_is_kept_with_the_quirk() -> None:
    block = result("t1", "a", cache_control={"type": "ephemeral", "ttl": "1h"})
    assert answered(block)[0]["content"] == "a"
    assert answered(block, quirks=Quirks(cache_control=True))[0]["content"] == [
        text("a", cache_control={"type": "ephemeral"})
    ]


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
def test_a_server_tool_becomes_text(block: Any, expected: str) -> None:
    assert server_tool_words(block) == expected


def test_a_server_tool_is_never_a_call() -> None:
    block = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}}
    assert brief(told(assistant(block, call("t"))))[0] == ("assistant", '[web_search "q"]', ["t"])


def test_what_a_server_tool_found_stays_readable() -> None:
    page = {"type": "document", "title": "T", "source": {"type": "text", "data": "the page"}}
    fetched = {"type": "web_fetch_result", "url": "https://x.y", "content": page}
    ran = {"type": "code_execution_result", "stdout": "", "return_code": 3, "content": "a file"}
    found = {"tool_references": [{"type": "tool_reference", "tool_name": "Read"}]}
    for kind, content, words in (
        ("web_fetch_tool_result", fetched, "the page"),
        ("code_execution_tool_result", ran, "a file\nreturn code 3"),
        ("tool_search_tool_result", found, "Tool Read is available."),
    ):
        assert words in server_tool_words({"type": kind, "content": content})
    failed = {"type": "mcp_tool_result", "is_error": True, "content": [text("x")]}
    assert server_tool_words(failed).endswith("Error:\nx")


def test_inputs_and_results_of_another_shape_are_read() -> None:
    use = {"type": "tool_use", "id": "a", "name": "A", "input": '{"x":1}'}
    answer = {"type": "tool_result", "tool_use_id": "a", "content": {"ok": True}}
    upload = {"type": "container_upload", "file_id": "file_1"}
    messages = told(assistant(use), user(answer, upload))
    assert messages[0]["tool_calls"][0]["function"]["arguments"] == '{"x":1}'
    assert messages[1]["content"] == '{"ok":true}'
    assert messages[2]["content"] == "[file omitted: file_1]"
