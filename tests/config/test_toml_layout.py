import tomllib

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.toml_layout import PROVIDERS, Tables, arranged

pieces = st.lists(
    st.sampled_from(["", "", "# about the next", "  # indented", "# key = 1"]), max_size=5
)
sections = st.sampled_from(
    ["[log]\nlevel = 1", "[a.b]", "[[tokens]]\ntoken = 2", "[server.x]\ny = 1"]
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A document with comments and blank lines everywhere."""
    lines = draw(pieces)
    if draw(st.booleans()):
        lines += ["top = 1", *draw(pieces)]
    for section in draw(st.lists(sections, unique=True, max_size=2)):
        lines += [section, *draw(pieces)]
    for number in range(draw(st.integers(1, 4))):
        lines += ["[[providers]]", f"name = {number}", *draw(pieces)]
        if draw(st.booleans()):
            lines += ["[providers.headers]", "X = 1", *draw(pieces)]
    if draw(st.booleans()):
        lines += ["[zz]", "z = 1", *draw(pieces)]
    return "\n".join(lines) + "\n"


def comments(text: str) -> list[str]:
    return sorted(line for line in text.splitlines() if line.lstrip().startswith("#"))


@given(documents())
def test_arranging_alone_changes_nothing(text: str) -> None:
    document = tomlkit.parse(text)
    with arranged(document):
        pass
    assert document.as_string() == text
    with arranged(document):
        pass
    assert document.as_string() == text


@given(documents(), st.data())
def test_a_move_keeps_every_comment_and_all_that_is_said(text: str, data: st.DataObject) -> None:
    document = tomlkit.parse(text)
    before = tomllib.loads(text)
    count = len(before[PROVIDERS])
    index, to = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, count - 1))
    with arranged(document) as layout:
        Tables(layout, PROVIDERS).move(index, to)
    after = document.as_string()
    before[PROVIDERS].insert(to, before[PROVIDERS].pop(index))
    assert tomllib.loads(after) == before
    assert comments(after) == comments(text)
    assert document.unwrap() == before


@given(documents(), st.data())
def test_a_removal_takes_one_provider_and_nothing_else(text: str, data: st.DataObject) -> None:
    document = tomlkit.parse(text)
    before = tomllib.loads(text)
    index = data.draw(st.integers(0, len(before[PROVIDERS]) - 1))
    with arranged(document) as layout:
        Tables(layout, PROVIDERS).remove(index)
    del before[PROVIDERS][index]
    if not before[PROVIDERS]:
        del before[PROVIDERS]
    assert tomllib.loads(document.as_string()) == before


@given(documents(), st.data())
def test_an_addition_adds_one_provider_and_nothing_else(text: str, data: st.DataObject) -> None:
    document = tomlkit.parse(text)
    before = tomllib.loads(text)
    index = data.draw(st.integers(0, len(before[PROVIDERS])))
    with arranged(document) as layout:
        providers = Tables(layout, PROVIDERS)
        table = providers.new()
        table["name"] = "new"
        providers.insert(index, table)
    before[PROVIDERS].insert(index, {"name": "new"})
    after = document.as_string()
    assert tomllib.loads(after) == before
    assert comments(after) == comments(text)


@pytest.mark.parametrize("text", ["", "providers = []\n"])
def test_no_providers_are_none(text: str) -> None:
    with arranged(tomlkit.parse(text)) as layout:
        assert len(Tables(layout, PROVIDERS)) == 0
        assert list(Tables(layout, PROVIDERS)) == []
