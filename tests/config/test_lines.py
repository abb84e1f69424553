"""Where a TOML text sets a key."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.lines import Place, find_line, index_lines

TEXT = """\
# A comment, and an empty line.

[server]
port = 1
[[providers]]
name = "a"   # [not a header]
headers = { "X.Y" = "z" }
[providers.timeouts]
idle = 3
[[providers]]
models = [
  "x",  # 12

  "y",
]
model_mapping."a.b" = "c"
note = \"\"\"
[server]
port = 2
\"\"\"
timeouts.idle = 4
[[providers.keys]]
v = 1
[[providers.keys]]
v = 2
"""

LINES: dict[Place, int] = {
    ("server",): 3,
    ("server", "port"): 4,
    ("providers", 0): 5,
    ("providers", 0, "name"): 6,
    ("providers", 0, "headers", "X.Y"): 7,
    ("providers", 0, "timeouts", "idle"): 9,
    ("providers", 1): 10,
    ("providers", 1, "models"): 11,
    ("providers", 1, "model_mapping", "a.b"): 16,
    ("providers", 1, "note"): 17,
    ("providers", 1, "timeouts", "idle"): 21,
    ("providers", 1, "keys", 0, "v"): 23,
    ("providers", 1, "keys", 1, "v"): 25,
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("place", LINES)
def test_the_line_of_a_key(place: Place, end: str) -> None:
    assert find_line(index_lines(TEXT.replace("\n", end)), place) == LINES[place]


def test_a_key_that_is_not_set_has_the_line_of_its_table() -> None:
    lines = index_lines(TEXT)
    assert find_line(lines, ("providers", 0, "base_url")) == 5
    assert find_line(lines, ("server", "a", "b")) == 3
    assert find_line(lines, ("log", "level")) is None
    assert index_lines("") == {}


def places(value: Any, place: Place = ()) -> set[Place]:
    """The ways to everything in a document."""
    members: Any = value.items() if isinstance(value, dict) else ()
    found: set[Place] = set()
    for name, member in enumerate(value) if isinstance(value, list) else members:
        found |= {(*place, name)} | places(member, (*place, name))
    return found


def test_everything_in_a_document_has_a_line() -> None:
    lines = index_lines(TEXT)
    assert all(find_line(lines, place) for place in places(tomllib.loads(TEXT)))


NAMES = st.sampled_from(["a", "b", '"c.d"', "providers"])
STATEMENTS = st.lists(
    st.one_of(
        NAMES.map(lambda name: f"[{name}]"),
        NAMES.map(lambda name: f"[[{name}]]"),
        st.tuples(NAMES, NAMES).map(lambda pair: f"[{pair[0]}.{pair[1]}]"),
        st.tuples(NAMES, NAMES).map(lambda pair: f"[[{pair[0]}.{pair[1]}]]"),
        NAMES.map(lambda name: f"{name} = 1"),
        NAMES.map(lambda name: f"{name} = [\n1,\n{{ x = 2 }}]"),
        st.just("# [comment"),
    ),
    max_size=8,
)


@given(STATEMENTS)
def test_a_line_is_where_the_key_comes_into_being(statements: list[str]) -> None:
    text = "\n".join(statements)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines, numbered = index_lines(text), text.split("\n")
    for place, line in lines.items():
        assert place in places(document)
        assert place not in places(tomllib.loads("\n".join(numbered[: line - 1])))
