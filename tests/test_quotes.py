"""No spelling hides what an upstream quotes of a conversation."""

import html
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback import quotes
from ccfallback.messages.body import Body
from ccfallback.quotes import LEFT_OUT, Quotes, fold

SAID = 'print("Zebra\\tnumber é")\n\tif x < 4711: return {"key": "Füße"}'

SPELLINGS: dict[str, Callable[[str], str]] = {
    "itself": str,
    "JSON": lambda text: msgspec.json.encode(text).decode(),
    "ASCII JSON": lambda text: ascii(text).replace("\\xe9", "\\u00e9"),
    "JSON in JSON": lambda text: msgspec.json.encode(msgspec.json.encode(text).decode()).decode(),
    "repr": repr,
    "repr of bytes": lambda text: repr(text.encode()),
    "capitals": str.upper,
    "small letters": str.lower,
    "one line": lambda text: " ".join(text.split()),
    "without space": lambda text: "".join(text.split()),
    "wide": lambda text: " ".join(text),
    "URL": quote,
    "query": quote_plus,
    "URL in URL": lambda text: quote(quote(text)),
    "HTML": html.escape,
    "decomposed": lambda text: text.replace("é", "e\u0301").replace("ü", "u\u0308"),
    "zero width": lambda text: "\u200b".join(text),
    "full width": lambda text: "".join(
        chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text
    ),
}


def quotes_in(**members: Any) -> Quotes:
    return Quotes(Body.parse(msgspec.json.encode({"model": "claude-x", **members})))


def block(**members: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [members]}]


PLACES: dict[str, dict[str, Any]] = {
    "text": {"messages": block(type="text", text=SAID)},
    "system": {"system": SAID},
    "system block": {"system": [{"type": "text", "text": SAID}]},
    "tool": {"tools": [{"name": "t", "description": SAID, "input_schema": {}}]},
    "schema": {"tools": [{"input_schema": {"properties": {"a": {"enum": [SAID]}}}}]},
    "input": {"messages": block(type="tool_use", input={"command": SAID})},
    "name in input": {"messages": block(type="tool_use", input={SAID: 1})},
    "result": {"messages": block(type="tool_result", content=[{"type": "text", "text": SAID}])},
    "document": {"messages": block(type="document", source={"type": "text", "data": SAID})},
    "metadata": {"metadata": {"user_id": SAID}},
    "server": {"mcp_servers": [{"authorization_token": SAID}]},
    "stop": {"stop_sequences": [SAID]},
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_no_spelling_hides_a_quote(spell: Callable[[str], str]) -> None:
    shown = quotes_in(messages=block(type="text", text=SAID)).remove(f"bad: {spell(SAID)}")
    assert LEFT_OUT in shown
    assert b"zebranumber" not in fold(shown)
    assert b"4711" not in fold(shown)
    assert shown.startswith("bad: ")


@pytest.mark.parametrize("members", PLACES.values(), ids=PLACES)
def test_no_place_hides_a_quote(members: dict[str, Any]) -> None:
    assert b"zebra" not in fold(quotes_in(**members).remove(f"bad: {SAID}"))


@given(
    said=st.text(min_size=1, max_size=300),
    start=st.integers(0, 300),
    spell=st.sampled_from([SPELLINGS["itself"], str.upper, repr, quote, SPELLINGS["wide"]]),
)
def test_no_long_run_of_a_quote_is_left(said: str, start: int, spell: Callable[[str], str]) -> None:
    said = said.encode("utf-8", "replace").decode().replace("…", ".")
    spelled = spell(said[start : start + 60])
    shown = quotes_in(messages=said).remove(f"a: {spelled} :b")
    content = fold(said)
    # Nothing that is left shows a run of the conversation, and all that is left was there.
    for part in shown.split(LEFT_OUT):
        left = fold(part)
        runs = (left[at : at + quotes.QUOTE] for at in range(len(left) - quotes.QUOTE + 1))
        assert not any(run in content for run in runs)
        assert part in f"a: {spelled} :b"
    # A quote is marked, and whatever is too short to be one stays as it is.
    if len(fold(spelled)) >= quotes.QUOTE and fold(spelled) in content:
        assert LEFT_OUT in shown
    if len(fold(f"a: {spelled} :b")) < quotes.QUOTE:
        assert shown == f"a: {spelled} :b"


@pytest.mark.parametrize(
    "refusal",
    [
        "messages.0.content.0.cache_control: Extra inputs are not permitted",
        "tools.0.custom.input_schema: JSON schema is invalid",
        "messages.1: redacted_thinking is not supported",
        "claude-sonnet-4-5-20250929 does not exist",
        "max_tokens: 64000 > 8192",
    ],
)
def test_the_words_of_the_api_are_no_quote(refusal: str) -> None:
    body = {
        "model": "claude-sonnet-4-5-20250929",
        "max_tokens": 64_000,
        "messages": block(type="redacted_thinking", cache_control={"type": "ephemeral"}),
        "tools": [{"name": "a", "input_schema": {"additionalProperties": False}}],
    }
    assert Quotes(Body.parse(msgspec.json.encode(body))).remove(refusal) == refusal


def test_short_runs_are_common_words() -> None:
    assert quotes_in(system="internal server").remove("internal error") == "internal error"


def test_an_image_is_not_searched() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}
    found = quotes_in(messages=block(type="image", source=source))
    assert found.remove("A" * 40) == "A" * 40
    assert len(found._read()) < 100


def test_a_body_over_the_bound_leaves_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "MOST_BYTES", 100)
    assert quotes_in(system="x" * 100).remove("some words") == LEFT_OUT


def test_what_can_not_be_read_leaves_no_word() -> None:
    deep = msgspec.Raw(b"[" * 100_000 + b'"quite some words"' + b"]" * 100_000)
    found = Quotes(Body({"messages": deep}, b'{"messages":%b}' % deep))
    assert found.remove("no: quite some words") == LEFT_OUT


@pytest.mark.parametrize("said", ["a" * 200_000, "abcdef" * 40_000, "abcdefabcdeX" * 20_000])
def test_the_work_is_bounded(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotes, "MOST_STEPS", 10_000)
    text = "abcdefabcdeY" * 15
    assert fold(quotes_in(system=said).remove(text)) in (b"", fold(text))
    assert quotes_in(system="a" * 200_000).remove("a" * 200) == LEFT_OUT


def thoroughly(found: Quotes) -> Quotes:
    """One that reads the body in any case."""
    found._read()
    return found


LETTERS = st.text(st.sampled_from('abnrtuf01\\"/\n\t é'), max_size=40)


@given(st.lists(LETTERS, min_size=1, max_size=4), st.data())
def test_the_quick_look_at_a_body_misses_no_quote(parts: list[str], data: st.DataObject) -> None:
    said = "".join(parts)
    start = data.draw(st.integers(0, len(said)))
    text = data.draw(st.sampled_from([said[start:], said[: start + 14], "".join(parts[::-1])]))
    members: dict[str, Any] = {"messages": block(type="text", text=said), "system": parts}
    assert quotes_in(**members).remove(text) == thoroughly(quotes_in(**members)).remove(text)


def test_the_quick_look_decides_about_most_refusals() -> None:
    found = quotes_in(system=['Read\n\tC:\\new "files"'])
    assert found.remove("Number of request tokens has exceeded your limit") != ""
    assert found._content is None
    assert found.remove("refused: Read C: new files") == f"refused: {LEFT_OUT}"
    assert found._content is not None
