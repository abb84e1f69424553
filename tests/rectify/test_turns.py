"""The order of a conversation, and what its messages contain."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ccfallback.config.quirks import Quirks
from ccfallback.messages.body import Body
from ccfallback.rectify import attempt
from ccfallback.rectify.rule import Refusal
from ccfallback.wire.openai.request import to_openai
from tests.rectify.drafts import (
    BETAS,
    CAPTURED,
    HI,
    MARK,
    TOOLS,
    assistant,
    body_after,
    body_of,
    call,
    captured,
    captured_body,
    conversations,
    document,
    draft,
    draft_of,
    image,
    members,
    missing,
    refused,
    repair_body,
    repaired,
    result,
    server_call,
    server_result,
    system,
    text,
    tool,
    user,
)
from tests.rectify.refusals import REFUSED
from tests.rectify.validity import faults

# --- system_role ---

REFUSAL = "messages.1.role: Input should be 'user' or 'assistant'"
NOTE = {"role": "system", "content": "A", "output_config": {"effort": "low"}}


def test_a_user_message_carries_the_system_message() -> None:
    made = repaired("system_role", draft(HI, NOTE, betas=BETAS), REFUSAL)
    said = text("<system-reminder>\nA\n</system-reminder>")
    assert members(made.draft)["messages"] == [user(text("hi"), said)]
    assert members(made.draft)["output_config"] == {"effort": "low"}
    assert set(BETAS) - set(made.draft.betas) == {"per-turn-control-2026-07-01"}
    assert made.changed == "1 system message folded into user messages"


def test_a_code_says_that_system_messages_are_refused() -> None:
    refusal = Refusal(400, "no", "mid_conversation_system_not_supported")
    assert attempt("system_role", draft(HI, NOTE), refusal) is not None


@pytest.mark.parametrize("before", captured())
def test_the_real_clients_system_messages_are_folded(before: object) -> None:
    assert isinstance(before, type(draft()))
    roles = [message["role"] for message in members(before)["messages"]]
    if "system" not in roles:
        assert refused("system_role", before, REFUSAL)
        return
    now = members(repaired("system_role", before, REFUSAL).draft)["messages"]
    assert [message["role"] for message in now] == [role for role in roles if role != "system"]


def test_the_system_prompt_stays() -> None:
    assert refused("system_role", draft(HI, system="A"), REFUSAL)


# --- block_types ---

HELLO = user(text("hi"))


def unknown(kind: str) -> str:
    return (
        f"messages.2.content.0: Input tag '{kind}' found using 'type' does not match any of the"
        " expected tags: 'text'"
    )


FOUND = {
    "type": "search_result",
    "title": "T",
    "source": "https://a",
    "content": [text("one"), text("two")],
}
WORDS = text("T\n\nhttps://a\n\none\n\ntwo")


@pytest.mark.parametrize("kind", ["server_tool_use", "web_search_tool_result"])
def test_server_tools_of_an_unknown_type_are_removed_with_their_results(kind: str) -> None:
    one = "srvtoolu_1"
    messages = [
        HELLO,
        assistant(server_call(one), server_result(one), text("ok")),
        HELLO,
        assistant(server_call(one), server_result(one)),
        HELLO,
    ]
    repair = repair_body("block_types", {"messages": messages}, unknown(kind))
    assert repair is not None
    assert repair.changed == "4 blocks of an unknown kind removed"
    body = body_after("block_types", {"messages": messages}, repair.lesson or "")
    assert body["messages"] == [
        HELLO,
        assistant(text("ok")),
        HELLO,
        assistant(text("(no content)")),
        HELLO,
    ]


def test_search_results_become_words() -> None:
    messages = [
        user({**FOUND, **MARK}),
        assistant(call("a")),
        user(result("a", [FOUND, text("x")]), {"type": "search_result"}),
    ]
    for words in (unknown("search_result"), "unknown variant `search_result`, expected `text`"):
        body = body_after("block_types", {"messages": messages}, words)
        assert body["messages"] == [
            user({**WORDS, **MARK}),
            assistant(call("a")),
            user(result("a", [WORDS, text("x")]), text("[search result]")),
        ]


@pytest.mark.parametrize("words", [unknown("tool_reference"), "Unexpected item type in content."])
def test_tools_that_were_found_are_loaded(words: str) -> None:
    found = {"type": "tool_reference", "tool_name": "Web"}
    body = {
        "messages": [HELLO, assistant(call("a")), user(result("a", [found]))],
        "tools": [tool("Bash"), {**tool("Web"), "defer_loading": True}],
    }
    after = body_after("block_types", body, words)
    assert after["tools"] == [tool("Bash"), tool("Web")]
    assert after["messages"][2] == user(result("a", [text("Tool Web is available.")]))


def test_the_clients_own_search_is_understood() -> None:
    (case,) = [case for case in CAPTURED if case.stem == "tool_reference"]
    after: Any = body_after("block_types", captured_body(case), unknown("tool_reference"))
    assert all("defer_loading" not in one for one in after["tools"])
    assert b"tool_reference" not in repr(after["messages"]).encode()


@pytest.mark.parametrize(
    "kind", ["adaptive", "text", "tool_use", "tool_result", "thinking", "compaction", "fallback"]
)
def test_blocks_of_other_types_stay(kind: str) -> None:
    messages = [HELLO, assistant({"type": "thinking"}, call("a")), user(result("a"), FOUND)]
    messages.append(assistant({"type": "compaction", "content": "x"}, {"type": "adaptive"}))
    assert repair_body("block_types", {"messages": messages}, unknown(kind)) is None


# --- empty_text ---

EMPTY = REFUSED["empty_text"][0]
OK = assistant(text("ok"))
THINKING = {"type": "thinking", "thinking": "", "signature": "s"}
FILLER = text("(no content)")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user(text(""), text("hi"), text(" \n"))], [HELLO]),
        ([user(text(" ")), OK], [user(FILLER), OK]),
        ([HELLO, assistant(text("\n\n")), HELLO], [HELLO, assistant(FILLER), HELLO]),
        ([HELLO, assistant(text("\n\n"))], [HELLO]),
        ([HELLO, {"role": "assistant", "content": ""}, HELLO], [HELLO, assistant(FILLER), HELLO]),
        ([HELLO, {"role": "user", "content": " "}], [HELLO]),
        ([HELLO, {"role": "user", "content": []}], [HELLO]),
        ([HELLO, system(" "), OK], [HELLO, OK]),
        (
            [user(result("a", [text(""), text("x")]), result("b", [text("")]), result("c", ""))],
            [user(result("a", [text("x")]), result("b", []), result("c", ""))],
        ),
        ([user(text("hi"), text("", **MARK))], [user(text("hi", **MARK))]),
        (
            [HELLO, assistant(text("ok"), THINKING, text("", **MARK)), HELLO],
            [HELLO, assistant(text("ok", **MARK), THINKING), HELLO],
        ),
        ([user(text("", **MARK), text("hi"))], [HELLO]),
        (
            [user(text("hi", cache_control={"type": "e", "ttl": "1h"}), text("", **MARK))],
            [user(text("hi", cache_control={"type": "e", "ttl": "1h"}))],
        ),
    ],
)
def test_empty_texts_are_removed(messages: list[Any], expected: list[Any]) -> None:
    assert body_after("empty_text", {"messages": messages}, EMPTY)["messages"] == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("", None), (" \n", None), ([text("")], None), ([text("a"), text(" ")], [text("a")])],
)
def test_empty_texts_are_removed_from_the_system_prompt(prompt: Any, expected: Any) -> None:
    body = body_after("empty_text", {"messages": [HELLO], "system": prompt}, EMPTY)
    assert body == {"messages": [HELLO]} | ({"system": expected} if expected else {})


def test_removed_texts_are_counted() -> None:
    body = {"messages": [user(text("a"), text(""), result("b", [text("")]))], "system": " "}
    repair = repair_body("empty_text", body, EMPTY)
    assert repair is not None
    assert repair.changed == "3 empty texts removed"
    repair = repair_body(
        "empty_text", {"messages": [HELLO, {"role": "user", "content": []}]}, EMPTY
    )
    assert repair is not None
    assert repair.changed == "1 empty message filled or removed"


BLANK = st.sampled_from(["", " ", "\n\n", "\t "])


@given(st.data())
def test_no_text_is_empty(data: st.DataObject) -> None:
    body = data.draw(conversations())
    messages = []
    for message in body["messages"]:
        content = message["content"]
        if data.draw(st.integers(0, 4)) == 0 and not isinstance(content, str):
            kept = [block for block in content if block["type"] in ("tool_use", "tool_result")]
            where = data.draw(st.integers(len(kept), len(kept) + 1))
            content = kept or []
            content[where:where] = [text(data.draw(BLANK))]
        messages.append({**message, "content": content})
    prompt = data.draw(st.none() | BLANK)
    broken = {**body, "messages": messages} | ({"system": prompt} if prompt is not None else {})
    if faults(broken) or prompt is not None:
        found = faults(body_after("empty_text", broken, EMPTY))
        # A server tool's result went with the rest of its message.
        assert not [fault for fault in found if "before the user" not in fault]
    else:
        assert repair_body("empty_text", broken, EMPTY) is None


# --- citations ---

CITED = [{"type": "char_location", "cited_text": "a"}]


def plain(data: str, **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "text", "data": data}, **more}


@pytest.mark.parametrize("words", REFUSED["citations"])
def test_citations_and_documents_become_plain_text(words: str) -> None:
    messages = [
        user(text("a", citations=CITED, **MARK), document(citations={"enabled": True})),
        assistant(text("b", citations=CITED), plain("c", title="T", context="C", **MARK)),
    ]
    repair = repair_body("citations", {"messages": messages}, words)
    assert repair is not None
    assert repair.changed == (
        "1 user message left without citations, 1 assistant message with documents turned into text"
    )
    body = body_after("citations", {"messages": messages}, repair.lesson or "")
    assert body["messages"] == [
        user(text("a", **MARK), document(citations={"enabled": True})),
        assistant(text("b", citations=CITED), text("T\n\nC\n\nc", **MARK)),
    ]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (document(), "[document omitted]"),
        (document(title="T"), "[document omitted: T]"),
        (plain("x"), "x"),
        (plain(" "), "[document omitted]"),
        ({"type": "document", "source": {"type": "content", "content": "x"}}, "x"),
        ({"type": "document", "source": {"type": "content", "content": [text("x")]}}, "x"),
        ({"type": "document"}, "[document omitted]"),
    ],
)
def test_a_document_becomes_its_text(block: dict[str, Any], words: str) -> None:
    body = body_after("citations", {"messages": [HELLO, assistant(block)]}, REFUSED["citations"][0])
    assert body["messages"][1] == assistant(text(words))


def test_messages_without_citations_stay() -> None:
    messages = [user(text("a", citations=[]), document()), assistant(text("b", citations=CITED))]
    for words in REFUSED["citations"]:
        assert repair_body("citations", {"messages": messages}, words) is None


# --- after_results ---

NO_USER = REFUSED["after_results"][0]
REMINDER = text("<system-reminder>\ns\n</system-reminder>")


def test_words_after_results_move_into_the_last_result() -> None:
    messages = [
        *(HELLO, assistant(call("a"), call("b")), user(result("a"), text("x"), result("b"))),
        *(system("s"), HELLO, assistant(text("ok")), HELLO),
    ]
    repair = repair_body("after_results", {"messages": messages}, NO_USER)
    assert repair is not None
    assert repair.changed == "1 system message told by the user, 3 texts moved into tool results"
    body = body_after("after_results", {"messages": messages}, repair.lesson or "")
    assert body["messages"] == [
        *(HELLO, assistant(call("a"), call("b"))),
        user(result("a"), result("b", [text("done"), text("x"), REMINDER, text("hi")])),
        *(assistant(text("ok")), HELLO),
    ]


def test_notes_replace_pictures_after_results() -> None:
    messages = [assistant(call("a")), user(result("a", [image(), text("x")]), image())]
    body = body_after("after_results", {"messages": messages}, NO_USER)
    noted = text("[image omitted]")
    assert body["messages"][1] == user(result("a", [noted, text("x"), noted]))


def test_results_without_words_after_them_stay() -> None:
    messages = [HELLO, system("s"), assistant(call("a")), user(result("a")), assistant(text("ok"))]
    assert repair_body("after_results", {"messages": messages}, NO_USER) is None


@given(conversations())
def test_no_user_follows_a_result_in_the_other_format(body: Any) -> None:
    # A turn with nothing but thinking vanishes in the other format.
    kinds = [
        {block["type"] for block in message["content"]}
        for message in body["messages"]
        if message["role"] == "assistant"
    ]
    assume(all(each != {"thinking"} for each in kinds))
    repair = repair_body("after_results", body, NO_USER)
    after = body_of(repair.draft) if repair else body
    sent: Body = to_openai(draft_of(after).body, Quirks(), "m")
    roles = [message["role"] for message in sent.get("messages")]
    assert ("tool", "user") not in pairwise(roles)


# --- alternation ---

TURNS, FIRST = REFUSED["alternation"][0], REFUSED["alternation"][3]
START = user(text("(start)"))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HELLO, HELLO, OK, OK], [user(text("hi"), text("hi")), assistant(text("ok"), text("ok"))]),
        ([{"role": "user", "content": "a"}, HELLO], [user(text("a"), text("hi"))]),
        ([OK, HELLO], [START, OK, HELLO]),
        (
            [HELLO, system("s"), OK],
            [user(text("hi"), text("<system-reminder>\ns\n</system-reminder>")), OK],
        ),
        (
            [HELLO, assistant(call("a")), user(result("a")), user(text("x"), result("b"))],
            [HELLO, assistant(call("a")), user(result("a"), result("b"), text("x"))],
        ),
    ],
)
def test_messages_in_a_row_become_one(messages: list[Any], expected: list[Any]) -> None:
    repair = repair_body("alternation", {"messages": messages}, TURNS)
    assert repair is not None
    assert (
        body_after("alternation", {"messages": messages}, repair.lesson or "")["messages"]
        == expected
    )


@pytest.mark.parametrize("messages", [[OK, OK, HELLO], [system("s"), HELLO, HELLO]])
def test_a_first_message_of_the_user_is_added(messages: list[Any]) -> None:
    repair = repair_body("alternation", {"messages": messages}, FIRST)
    assert repair is not None
    assert repair.changed == "1 first message added"
    assert repair.lesson is None
    assert body_after("alternation", {"messages": messages}, FIRST)["messages"] == [
        START,
        *messages,
    ]


@pytest.mark.parametrize("words", [TURNS, FIRST])
def test_alternating_messages_stay(words: str) -> None:
    assert repair_body("alternation", {"messages": [HELLO, OK, HELLO]}, words) is None
    assert repair_body("alternation", {"messages": []}, words) is None


@given(st.data())
def test_roles_always_alternate_after_the_repair(data: st.DataObject) -> None:
    body = data.draw(conversations())
    messages = []
    for message in body["messages"]:
        messages.append(message)
        if message["role"] == "user" and data.draw(st.booleans()):
            messages.append(user(text("and")))
        if message["role"] == "assistant" and data.draw(st.booleans()):
            messages.insert(-1, assistant(text("well")))
    first = [assistant(text("well"))] if data.draw(st.booleans()) else []
    broken = {**body, "messages": [*first, *messages]}
    repair = repair_body("alternation", broken, TURNS)
    after = body_after("alternation", broken, TURNS) if repair else broken
    assert not faults(after, alternating=True)


# --- prefill ---

SPACE, REFUSED_PREFILL = REFUSED["prefill"][:2]
MORE = user(text("Continue."))
BEGUN = assistant(text("It was a dark"))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HELLO, BEGUN], [HELLO, BEGUN, MORE]),
        ([HELLO, BEGUN, system("s")], [HELLO, BEGUN, user(text("Continue."), REMINDER)]),
        ([HELLO, assistant(text("{")), system("s")], [user(text("hi"), REMINDER)]),
        ([HELLO, assistant(text("{"))], [HELLO]),
        ([HELLO, assistant(text("<answer>\n"))], [HELLO]),
        ([HELLO, assistant(text("Done."))], [HELLO, assistant(text("Done.")), MORE]),
        ([assistant(text("{"))], [assistant(text("{")), MORE]),
        ([HELLO, BEGUN, assistant(text("{"))], [HELLO, BEGUN, assistant(text("{")), MORE]),
        (
            [HELLO, assistant(call("a"))],
            [HELLO, assistant(call("a")), user(missing("a"), text("Continue."))],
        ),
        (
            [HELLO, {"role": "assistant", "content": "It was"}],
            [HELLO, {"role": "assistant", "content": "It was"}, MORE],
        ),
    ],
)
def test_the_conversation_ends_with_a_user_message(
    messages: list[Any], expected: list[Any]
) -> None:
    repair = repair_body("prefill", {"messages": messages}, REFUSED_PREFILL)
    assert repair is not None
    assert (
        body_after("prefill", {"messages": messages}, repair.lesson or "")["messages"] == expected
    )


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HELLO, assistant(text("a \n"))], [HELLO, assistant(text("a"))]),
        ([HELLO, assistant(text("a"), text(" "))], [HELLO, assistant(text("a"))]),
        ([HELLO, assistant(text("a "), text(" "))], [HELLO, assistant(text("a"))]),
        ([HELLO, assistant(text(" "))], [HELLO]),
        ([HELLO, {"role": "assistant", "content": "a "}], [HELLO, assistant(text("a"))]),
        ([HELLO, assistant(text("a ")), system("s")], [HELLO, assistant(text("a")), system("s")]),
    ],
)
def test_trailing_space_is_removed(messages: list[Any], expected: list[Any]) -> None:
    assert body_after("prefill", {"messages": messages}, SPACE)["messages"] == expected


def test_a_last_system_message_is_folded() -> None:
    messages = [HELLO, system("s"), BEGUN, HELLO, system("t")]
    repair = repair_body("prefill", {"messages": messages}, REFUSED_PREFILL)
    assert repair is not None
    assert repair.changed == "2 system messages told by the user"
    body = body_after("prefill", {"messages": messages}, repair.lesson or "")
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][-1]["content"][-1]["text"] == "<system-reminder>\nt\n</system-reminder>"


@pytest.mark.parametrize(
    "messages", [[HELLO], [HELLO, assistant(text("a ")), HELLO], [], [system(" ")]]
)
@pytest.mark.parametrize("words", [SPACE, REFUSED_PREFILL])
def test_a_conversation_that_ends_with_the_user_stays(messages: list[Any], words: str) -> None:
    assert repair_body("prefill", {"messages": messages}, words) is None


@given(conversations(), st.sampled_from(["{", "It was ", " ", "call"]))
def test_any_conversation_ends_with_the_user_after_the_repair(body: Any, words: str) -> None:
    answer = assistant(call("zz")) if words == "call" else assistant(text(words))
    broken = {**body, "messages": [*body["messages"], answer], "tools": TOOLS}
    after = body_after("prefill", broken, REFUSED_PREFILL)
    assert not [fault for fault in faults(after, prefill=False) if "empty text" not in fault]
