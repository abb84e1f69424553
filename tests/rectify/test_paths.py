"""Which fields are called unknown, in everybody's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.rectify.paths import MOST, refused_paths, unknown_fields
from ccfallback.rectify.rule import Refusal


@pytest.mark.parametrize(
    ("message", "paths"),
    [
        ("a_b: Extra inputs are not permitted", ["a_b"]),
        ("a: Extra inputs are not permitted; b.3.c: Extra inputs are not permitted",
         ["a", "b.*.c"]),
        ("tools.3.custom.x: Extra inputs are not permitted", ["tools.*.custom.x"]),
        ("messages.1.content.0.tool_use.i: Additional input is not allowed",
         ["messages.*.content.*.tool_use.i"]),
        ("body -> a: Extra fields not permitted", ["a"]),
        ("error for R\nbody.a\n  Extra inputs are not permitted [type=extra_forbidden]", ["a"]),
        ("[{'loc': ('body', 'm', 1, 'a'), 'msg': 'Extra inputs are not permitted'}]", ["m.*.a"]),
        ('[{"loc":["body","a"],"msg":"Extra inputs are not permitted"}]', ["a"]),
        ('{"message":"a: Extra inputs are not permitted"}', ["a"]),
        ("Unrecognized request argument supplied: a", ["a"]),
        ("Unrecognized request arguments supplied: a, b", ["a", "b"]),
        ("Unknown parameter: 'm[0].content[1].a'.", ["m.*.content.*.a"]),
        ("Unsupported parameter: 'a' is not supported with this model.", ["a"]),
        ('json: unknown field "a"', ["a"]),
        ("('m.2' : property 'a' is unsupported)", ["m.*.a"]),
        ("Unknown name \"a\" at 'm[0]': Cannot find field.", ["m.*.a"]),
        ('Unknown name "a": Cannot find field.', ["a"]),
        ("#: extraneous key [a] is not permitted, please", ["a"]),
        ("#/m/0: extraneous key [a] is not permitted", ["m.*.a"]),
        ("Additional properties are not allowed ('a', 'b' were unexpected)", ["a", "b"]),
        ("*.a: Extra inputs are not permitted", ["*.a"]),
        ("a: unexpected field", ["a"]),
        ("a is bad", []),
        ("", []),
    ],
)  # fmt: skip
def test_paths(message: str, paths: list[str]) -> None:
    found = [".".join(path) for path in refused_paths(Refusal(400, message).text)]
    assert found[: len(paths)] == paths
    assert bool(found) == bool(paths)


def test_no_more_than_a_few() -> None:
    text = "; ".join(f"a{number}: extra inputs are not permitted" for number in range(50))
    assert len(refused_paths(text)) == MOST


@given(
    st.lists(
        st.lists(st.sampled_from(["messages", "*", "content", "a_b"]), min_size=1, max_size=6).map(
            tuple
        ),
        min_size=1,
        max_size=MOST,
        unique=True,
    )
)
def test_a_lesson_names_the_same_paths(paths: list[tuple[str, ...]]) -> None:
    assert refused_paths(Refusal(400, unknown_fields(paths)).text) == tuple(paths)


@given(
    st.text(
        st.sampled_from("ab.:*/[](),'# -> extra inputs not permitted unknown field"), max_size=300
    )
)
def test_any_text_can_be_read(text: str) -> None:
    refused_paths(text)


def test_a_long_text_is_read_quickly() -> None:
    refused_paths("a." * 50000)
    refused_paths("unknown field " * 9000)
