"""The estimate of a prompt's tokens: never raises, and grows with the prompt."""

import json
from base64 import b64encode
from pathlib import Path
from struct import pack
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.messages.body import Body
from ccfallback.messages.tokens import (
    FORMAT_AT_ALL,
    IMAGE,
    PAGE,
    PER_MESSAGE,
    REQUEST,
    TEXT_OF_PAGE,
    UNKNOWN_DOCUMENT,
    Usage,
    estimate,
)

AROUND = REQUEST + PER_MESSAGE
"""Tokens around one message."""


def body(**members: Any) -> Body:
    return Body.parse(json.JSONEncoder().encode(members).encode())


def content(*blocks: Any) -> int:
    return estimate(body(messages=[{"role": "user", "content": list(blocks)}]))


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    "members", [{}, {"messages": []}, {"messages": None}, {"messages": "x"}, {"messages": [5]}]
)
def test_nothing_is_one_token(members: dict[str, Any]) -> None:
    assert estimate(body(**members)) == 1


def test_latin_text_is_a_little_overestimated() -> None:
    words = "the quick brown fox jumps over the lazy dog " * 100
    assert 900 < content(text(words)) < 1500


def test_other_scripts_are_denser() -> None:
    assert 1000 <= content(text("漢" * 1000)) <= 1200
    assert content(text("я" * 1000)) > content(text("a" * 1000))


def test_an_image_counts_the_same_whatever_its_bytes() -> None:
    small, big = (
        {"type": "image", "source": {"type": "base64", "data": "A" * size}} for size in (10, 100000)
    )
    assert content(small) == content(big) == IMAGE + AROUND


@pytest.mark.parametrize("block", [
    {"type": "thinking", "thinking": "", "signature": "A" * 10000},
    {"type": "redacted_thinking", "data": "A" * 10000},
    {"type": "text", "text": "", "cache_control": {"type": "ephemeral"}},
])  # fmt: skip
def test_only_text_for_the_model_is_counted(block: dict[str, Any]) -> None:
    assert content(block) < 20


def test_documents() -> None:
    encoded = {"type": "document", "source": {"type": "base64", "data": "A" * 50_000}}
    plain = {"type": "document", "source": {"type": "text", "data": "A" * 3100}}
    nested = {"type": "document", "source": {"type": "content", "content": [text("A" * 3100)]}}
    assert content(encoded) == UNKNOWN_DOCUMENT + AROUND
    assert content(plain) == content(nested) == content(text("A" * 3100))
    assert content({"type": "document"}) == AROUND


def test_tools_cost_something_at_all() -> None:
    tool = {"name": "Bash", "description": "d" * 300, "input_schema": {"type": "object"}}
    with_one = estimate(body(tools=[tool]))
    assert with_one > 346
    assert estimate(body(tools=[tool, tool])) > with_one
    assert estimate(body(tools=[])) == 1


def test_tool_uses_and_results() -> None:
    use = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "x" * 340}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [text("x" * 340)]}
    assert content(use) > 70
    assert content(result) > 60


def test_no_nesting_is_too_deep() -> None:
    nested: Any = "x"
    for _ in range(700):
        nested = {"type": "tool_result", "content": [nested]}
    raw = "x"
    for _ in range(300):
        raw = f'{{"c":[{raw}]}}' if raw != "x" else '"x"'
    assert estimate(Body.parse(f'{{"system":{raw}}}'.encode())) >= 1
    try:
        deep = body(messages=[{"content": nested}])
    except RecursionError:
        return
    assert estimate(deep) >= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "text", "source", "data", "content", "input", "name"]),
            inner | st.sampled_from(["image", "document", "tool_use", "text", "base64"]),
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(system=JSON, tools=JSON, messages=JSON)
def test_any_body_has_an_estimate(system: Any, tools: Any, messages: Any) -> None:
    assert estimate(body(system=system, tools=tools, messages=messages)) >= 1


@given(value=st.text(max_size=60), more=st.text(max_size=60))
def test_more_text_is_never_fewer_tokens(value: str, more: str) -> None:
    assert content(text(value)) <= content(text(value + more))


SCRIPTS = ((0x10000, 3.0), (0x2E80, 1.15), (0x2000, 1.0), (0x370, 0.6), (0x80, 1.0))
"""Tokens of one letter from this code point on."""


@pytest.mark.parametrize(("first", "tokens"), SCRIPTS)
def test_letters_count_by_their_script(first: int, tokens: float) -> None:
    before = next((each for start, each in SCRIPTS if start < first), None)
    assert content(text(chr(first) * 4000)) - AROUND == pytest.approx(4000 * tokens, abs=2)
    if before is not None:
        found = content(text(chr(first - 1) * 4000)) - AROUND
        assert found == pytest.approx(4000 * before, abs=2)


def test_texts_of_several_scripts_count_as_their_parts() -> None:
    parts = ["é" * 500, "ͱ" * 500, "я" * 500, "→" * 500, "漢" * 500, "🎉" * 500]
    alone = sum(content(text(part)) - AROUND for part in parts)
    mixed = "".join(map("".join, zip(*parts, strict=True)))
    for whole in ("".join(parts), mixed):
        assert content(text(whole)) - AROUND == pytest.approx(alone, abs=len(parts))


def test_a_body_is_estimated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = body(messages=[{"role": "user", "content": "hello"}])
    found = estimate(asked)
    monkeypatch.setattr(Body, "get", None)
    assert estimate(asked) == found
    monkeypatch.undo()
    assert estimate(asked.with_members(system="word " * 50)) > found + 40


COUNTED = {
    "bare": 60,
    "first_turn": 2475,
    "no_tools": 86,
    "parallel_results": 1527,
    "thinking_and_result": 1510,
    "tool_reference": 1740,
}
"""What the tokenizer that version 0.34 of the official client carried counts in the texts of real
requests, with 4 for each message and 350 for tools at all."""


@pytest.mark.parametrize("name", COUNTED)
def test_real_requests_are_estimated_within_a_fifth(name: str) -> None:
    case = Path(__file__).parent.parent / "wire/openai/cases/request" / f"{name}.json"
    # That tokenizer is the one of older models.
    asked = {**msgspec.json.decode(case.read_bytes())["asked"], "model": "claude-3-5-sonnet"}
    assert 0.8 < estimate(body(**asked)) / COUNTED[name] < 1.2


def test_an_image_counts_by_its_size() -> None:
    png = b"\x89PNG\r\n\x1a\n" + pack(">I4sII", 13, b"IHDR", 560, 280)
    source = {"type": "base64", "media_type": "image/png", "data": b64encode(png).decode()}
    assert content({"type": "image", "source": source}) == 200 + AROUND


@pytest.mark.parametrize("count", [-1, 2**53, 10**40, 1.5, True, None, "7"])
def test_a_count_that_no_reader_can_hold_is_ignored(count: object) -> None:
    usage = Usage(input_tokens=3)
    usage.take({"input_tokens": count, "output_tokens": 2**53 - 1})
    assert (usage.input_tokens, usage.output_tokens) == (3, 2**53 - 1)
    assert usage.is_impossible == (type(count) is int and count > 0)
    part = Usage(cache_write_1h=3)
    part.take({"cache_creation": {"ephemeral_1h_input_tokens": count}})
    assert (part.cache_write_1h, part.is_impossible) == (3, usage.is_impossible)


def test_the_pages_of_a_pdf_are_counted() -> None:
    pdf = b"%PDF-1.4 << /Type /Pages >> << /Type /Page >> << /Type/Page >>"
    source = {"type": "base64", "data": b64encode(pdf).decode()}
    expected = 2 * (PAGE + TEXT_OF_PAGE) + AROUND
    assert content({"type": "document", "source": source}) == expected
    for source in ({"type": "url", "url": "x"}, {"type": "file", "file_id": "x"}):
        assert content({"type": "document", "source": source}) == UNKNOWN_DOCUMENT + AROUND


def test_numbers_and_json_have_more_tokens_than_words() -> None:
    words = content(text("seven words and some more " * 40))
    numbers = content(text("1, 22, 333, 4444, 55555, 6 " * 40))
    data = content(text('{"a":1,"b":[22,{"c":"d"}]}' * 40))
    assert numbers > words * 1.15
    assert data > words * 1.3


def test_what_a_model_adds_depends_on_its_version() -> None:
    tool = {"name": "A", "description": "d" * 280, "input_schema": {}}
    models = ("claude-opus-4-1", "claude-opus-4-5")
    older, newer = (estimate(body(model=model, tools=[tool])) for model in models)
    assert newer - older == 497 - 313
    demanded = estimate(body(model=models[1], tools=[tool], tool_choice={"type": "any"}))
    assert demanded - newer == 589 - 497
    assert estimate(body(model="claude-sonnet-5-5", tools=[tool])) < newer
    unknown = estimate(body(model="other", tools=[tool], tool_choice={"type": "tool", "name": "A"}))
    assert older - unknown == 0
    said = [{"role": "user", "content": "word " * 1000}]
    dense = estimate(body(model="claude-opus-5-5", messages=said))
    assert dense > 1.1 * estimate(body(model="claude-sonnet-4-5-20250929", messages=said))


TEXTS = {
    "prose": (
        56,
        "A proxy sits between a program and a server. It reads each request, decides where it "
        "should go, and hands the answer back. If the server is busy, the proxy tries another one, "
        "so that nobody has to wait. Most people never notice that it is there.\n",
    ),
    "code": (
        99,
        'class Counter:\n    """Counts words in a text."""\n\n'
        "    def __init__(self, words: list[str]) -> None:\n"
        "        self._counts = {word: words.count(word) for word in set(words)}\n\n"
        "    def most_common(self, limit: int = 10) -> list[tuple[str, int]]:\n"
        "        ranked = sorted(self._counts.items(), key=lambda pair: -pair[1])\n"
        "        return ranked[:limit]\n",
    ),
    "JSON": (
        283,
        json.JSONEncoder().encode(
            [
                {
                    "id": n * 7919 % 10007,
                    "name": f"item_{n}",
                    "ok": n % 2 == 0,
                    "tags": ["a", "bc"],
                    "size": n * 1.37,
                }
                for n in range(8)
            ]
        ),
    ),
    "listing": (
        308,
        "\n".join(
            f"-rw-r--r--  1 root root {n * 8191 % 99991:>6} Nov {n + 1:>2} 1{n % 10}:0{n % 10} "
            f"module_{n}.py"
            for n in range(12)
        ),
    ),
    "log": (
        285,
        "\n".join(
            f"2026-11-28T19:2{n}:1{n}.{n * 137 % 1000:03d}Z INFO provider.attempt "
            f"request=ccr-17{n * 7919} status=200 ms={n * 31.7:.1f}"
            for n in range(8)
        ),
    ),
    "numbers": (295, ", ".join(str(n * n * 7919 % 1000003) for n in range(80))),
    "hex": (152, " ".join(f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}" for n in range(1, 16))),
    "diff": (
        67,
        "@@ -10,7 +10,8 @@ def main() -> int:\n     args = parse(sys.argv[1:])\n"
        "-    value = load(args.path)\n+    value = load(args.path, strict=True)\n"
        "+    check(value)\n     return run(value)\n",
    ),
    "HTML": (
        90,
        '<ul class="menu"><li><a href="/docs/start?lang=en">Start</a></li><li>'
        '<a href="/docs/api#errors">Errors</a></li></ul>\n' * 2,
    ),
    "Cyrillic": (29, "Прокси читает каждый запрос и решает, куда направить ответ. "),
    "Japanese": (23, "プロキシは要求を読み取り、送信先を決めます。"),
    "pictures": (12, "Done 🎉🚀 all good ✅ "),
    "identifiers": (
        14,
        "getUserNameFromRequestHeaders setConnectionTimeoutMilliseconds XMLHttpRequestFactory ",
    ),
}
"""Texts, and how many tokens the tokenizer that Anthropic has published finds in each."""


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_of_every_kind_are_estimated_within_a_fifth(kind: str) -> None:
    counted, value = TEXTS[kind]
    many = 20
    found = content(text(value * many)) - AROUND
    assert 0.8 < found / (counted * many) < 1.2


def schema(*names: str) -> dict[str, Any]:
    properties = {n: {"type": "integer" if n == "population" else "string"} for n in names}
    return {"properties": properties, "required": list(names), "type": "object"}


def tool(name: str, description: str, *names: str) -> dict[str, Any]:
    return {"name": name, "description": description, "input_schema": schema(*names)}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


BASH_ASKED = user(text("What is 2 + 2? Use python to calculate it."))
BASH_CALL = [
    {
        "role": "assistant",
        "content": [
            {
                "type": "tool_use",
                "id": "toolu_0144zkSmZeUPbngX6BzdV4YM",
                "name": "bash",
                "input": {"command": 'python3 -c "print(2 + 2)"'},
            }
        ],
    },
    user(
        {
            "type": "tool_result",
            "tool_use_id": "toolu_0144zkSmZeUPbngX6BzdV4YM",
            "content": '{"output": "4\\n", "exit_code": 0}',
        }
    ),
]
BASH: dict[str, Any] = {
    "model": "claude-sonnet-4-6",
    "system": "Always use the shell tool. Keep responses brief.",
    "tools": [{"type": "bash_20250124", "name": "bash"}],
}

REQUESTS: dict[str, tuple[int, dict[str, Any]]] = {
    "short": (
        20,
        {
            "model": "claude-3-opus-latest",
            "system": "You are a helpful assistant.\n\n",
            "messages": [user(text("What is the capital of France?"))],
        },
    ),
    "short, newer": (13, {"model": "claude-opus-5", "messages": [user(text("What is 2+2?"))]}),
    "a tool": (
        571,
        {
            "model": "claude-haiku-4-5",
            "messages": [user(text("What is 2+2?"))],
            "tools": [tool("get_weather", "Get the weather for a city.", "city")],
        },
    ),
    "a demanded tool": (
        671,
        {
            "model": "claude-opus-4-6",
            "messages": [user(text("What is the capital of France?"))],
            "tool_choice": {"type": "any"},
            "tools": [
                tool(
                    "final_result",
                    "The final response which ends this conversation",
                    "city",
                    "country",
                )
            ],
        },
    ),
    "a tool, newer": (
        402,
        {
            "model": "claude-sonnet-5-5",
            "messages": [user(text("Give me information about Tokyo"))],
            "tools": [
                tool("final_result", "Information about a city.", "city", "country", "population")
            ],
        },
    ),
    "bash": (774, {**BASH, "messages": [BASH_ASKED]}),
    "bash, a call": (866, {**BASH, "messages": [BASH_ASKED, *BASH_CALL]}),
    "bash, two calls": (957, {**BASH, "messages": [BASH_ASKED, *BASH_CALL, *BASH_CALL]}),
    "text editor": (
        1270,
        {
            "model": "claude-sonnet-4-6",
            "system": "Always use the text editor tool. Keep responses brief.",
            "messages": [user(text("View the file /tmp/example.py"))],
            "tools": [{"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}],
        },
    ),
    "memory": (
        1581,
        {
            "model": "claude-sonnet-4-5",
            "messages": [user(text("What is 2 + 2?"))],
            "tools": [{"type": "memory_20250818", "name": "memory"}],
        },
    ),
    "a schema for the answer": (
        196,
        {
            "model": "claude-sonnet-4-5",
            "messages": [user(text("Tell me about London"))],
            "output_config": {
                "format": {
                    "type": "json_schema",
                    "schema": {
                        **schema("city", "country", "population"),
                        "additionalProperties": False,
                    },
                }
            },
        },
    ),
}
"""Requests, and how many tokens of input Anthropic has counted in each."""


@pytest.mark.parametrize("kind", REQUESTS)
def test_requests_that_anthropic_has_counted_are_estimated_within_a_fifth(kind: str) -> None:
    counted, asked = REQUESTS[kind]
    assert 0.8 <= estimate(body(**asked)) / counted <= 1.2


def test_a_tool_that_is_not_loaded_yet_is_not_counted() -> None:
    asleep = {**tool("other", "d" * 4000, "city"), "defer_loading": True}
    awake = tool("Read", "Reads a file.", "path")
    reference = {"type": "tool_reference", "tool_name": "other"}
    result = user({"type": "tool_result", "tool_use_id": "t", "content": [reference]})
    alone = estimate(body(tools=[awake]))
    assert estimate(body(tools=[awake, asleep])) == alone
    assert estimate(body(tools=[awake, asleep], messages=[result])) > alone + 500


def test_a_schema_for_the_answer_is_counted() -> None:
    schema = {"type": "json_schema", "schema": {"type": "object", "title": "x" * 280}}
    assert estimate(body(output_config={"format": schema})) > FORMAT_AT_ALL + 50
