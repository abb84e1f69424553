import tomllib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.edit import (
    Document,
    ProviderChanges,
    _join,
    _split,
    add_provider,
    add_token,
    change_provider,
    move_provider,
    parse_value,
    remove_providers,
    remove_tokens,
    set_key,
)
from ccfallback.config.model import Config
from ccfallback.config.schema import parse
from ccfallback.errors import ConfigError, ProviderNotFound
from ccfallback.wire import FORMATS

COMMENTED = """\
# my setup

[server]
port = 9000  # not the usual one

# the cheap one
[[providers]]
name = "cheap"  # really
base_url = "https://cheap.example"
# retry = 2

# the fast one,
# from work
[[providers]]
name = "fast"
base_url = "https://fast.example"
[providers.headers]
X-A = "1"

# -- at home --

# the local one
[[providers]]
name = "local"
base_url = "http://127.0.0.1:1"

# laptop
[[tokens]]
token = "t-1"

# the end
"""

URL = ProviderChanges(base_url="https://new.example")


def edited(text: str, *changes: Callable[[Document], Any]) -> str:
    """The text after the changes, each made on what the one before wrote."""
    for change in changes:
        document = Document(text)
        change(document)
        text = document.text
    return text


def edited_at_once(text: str, *changes: Callable[[Document], Any]) -> str:
    """The text after all the changes to one document."""
    document = Document(text)
    for change in changes:
        change(document)
    return document.text


def config(text: str) -> Config:
    return parse(tomllib.loads(text), formats=FORMATS)


def names(text: str) -> list[str]:
    return [provider.name for provider in config(text).providers]


def test_the_first_provider_of_an_empty_file() -> None:
    changes = ProviderChanges(
        base_url="https://a.example",
        format="openai",
        api_key="sk-1",
        retry=1,
        disabled=True,
        headers={"X-A": "1"},
        model_mapping={"*": "m"},
    )
    assert edited("", lambda document: add_provider(document, "a", changes, None)) == (
        '[[providers]]\nname = "a"\nbase_url = "https://a.example"\nformat = "openai"\n'
        'api_key = "sk-1"\nretry = 1\ndisabled = true\nheaders = {X-A = "1"}\n'
        'model_mapping = {"*" = "m"}\n'
    )


def test_a_blank_line_stands_before_each_new_provider() -> None:
    text = edited(
        "[log]\nlevel = 'info'\n",
        lambda document: add_provider(document, "a", URL),
        lambda document: add_provider(document, "b", URL),
        lambda document: add_provider(document, "c", URL, 1),
    )
    assert names(text) == ["c", "a", "b"]
    assert text.count("\n\n[[providers]]\n") == 3
    assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("position", "order"),
    [
        (None, ["cheap", "fast", "local", "new"]),
        (1, ["new", "cheap", "fast", "local"]),
        (3, ["cheap", "fast", "new", "local"]),
        (99, ["cheap", "fast", "local", "new"]),
    ],
)
def test_an_added_provider_disturbs_no_comment(position: int | None, order: list[str]) -> None:
    text = edited(COMMENTED, lambda document: add_provider(document, "new", URL, position))
    assert names(text) == order
    added = '\n[[providers]]\nname = "new"\nbase_url = "https://new.example"\n'
    assert text.replace(added, "", 1) == COMMENTED


def test_a_provider_goes_with_its_comment_and_no_other() -> None:
    text = edited(COMMENTED, lambda document: remove_providers(document, ["cheap"]))
    start = COMMENTED.index("\n# the cheap one")
    assert text == COMMENTED[:start] + COMMENTED[COMMENTED.index("\n# the fast one") :]


def test_what_stands_between_providers_stays_when_one_goes() -> None:
    text = edited(COMMENTED, lambda document: remove_providers(document, ["local"]))
    start, end = COMMENTED.index("\n# the local one"), COMMENTED.index("\n# laptop")
    assert text == COMMENTED[:start] + COMMENTED[end:]


@pytest.mark.parametrize("run", [edited, edited_at_once])
def test_all_providers_can_go(run: Callable[..., str]) -> None:
    text = run(
        COMMENTED,
        lambda document: remove_providers(document, ["fast", "nobody", "local"]),
        lambda document: remove_providers(document, ["cheap"]),
    )
    assert names(text) == []
    for kept in ("# my setup", "# not the usual one", "# -- at home --", "# laptop", "# the end"):
        assert kept in text
    assert "# the" not in text.replace("# the end", "")
    assert len(config(text).tokens) == 1
    text = edited(text, lambda document: add_provider(document, "new", URL))
    assert names(text) == ["new"]


def test_removing_says_which_there_were() -> None:
    document = Document(COMMENTED)
    assert remove_providers(document, ["nobody", "fast", "fast"]) == ["fast"]
    assert remove_providers(document, ["nobody"]) == []
    assert remove_providers(Document(""), ["nobody"]) == []


def test_a_provider_moves_with_its_comment() -> None:
    text = edited(COMMENTED, lambda document: move_provider(document, "fast", 1))
    assert names(text) == ["fast", "cheap", "local"]
    for pair in (
        '\n\n# the fast one,\n# from work\n[[providers]]\nname = "fast"',
        'X-A = "1"\n\n# the cheap one\n[[providers]]\nname = "cheap"  # really',
        '\n# retry = 2\n\n# -- at home --\n\n# the local one\n[[providers]]\nname = "local"',
        "\n\n# laptop\n[[tokens]]",
    ):
        assert pair in text
    assert text.endswith("\n\n# the end\n")


@pytest.mark.parametrize("name", ["cheap", "fast", "local"])
@pytest.mark.parametrize("to", [1, 2, 3])
def test_a_move_there_and_back_changes_nothing(name: str, to: int) -> None:
    place = names(COMMENTED).index(name) + 1
    there = edited(COMMENTED, lambda document: move_provider(document, name, to))
    assert names(there).index(name) + 1 == to
    assert sorted(there.splitlines()) == sorted(COMMENTED.splitlines())
    assert edited(there, lambda document: move_provider(document, name, place)) == COMMENTED


def test_a_provider_at_the_very_top_can_move() -> None:
    text = '# one\n[[providers]]\nname = "a"\nbase_url = "https://a.example"\n'
    text = edited(
        text,
        lambda document: add_provider(document, "b", URL),
        lambda document: move_provider(document, "a", 2),
    )
    assert text.startswith('[[providers]]\nname = "b"')
    assert '\n\n# one\n[[providers]]\nname = "a"' in text


def test_a_changed_key_lands_above_the_next_comment() -> None:
    text = edited(
        COMMENTED,
        lambda document: change_provider(document, "cheap", ProviderChanges(retry=3)),
        lambda document: change_provider(document, "local", ProviderChanges(disabled=True)),
    )
    assert "# retry = 2\nretry = 3\n\n# the fast one" in text
    assert 'base_url = "http://127.0.0.1:1"\ndisabled = true\n\n# laptop' in text
    assert text.endswith("\n\n# the end\n")


def test_one_key_source_takes_the_place_of_the_others() -> None:
    text = '[[providers]]\nname = "a"\nbase_url = "https://a.example"\napi_key = "sk-1"\n'
    for changes, key in (
        (ProviderChanges(api_key_env="K"), "api_key_env"),
        (ProviderChanges(api_key_command=["pass", "a"]), "api_key_command"),
        (ProviderChanges(api_key="sk-2"), "api_key"),
    ):
        text = edited(text, partial(change_provider, name="a", changes=changes))
        assert [key for key in tomllib.loads(text)["providers"][0] if key.startswith("api")] == [
            key
        ]


def test_enabling_takes_the_key_out() -> None:
    text = edited(
        COMMENTED,
        lambda document: change_provider(document, "local", ProviderChanges(disabled=True)),
        lambda document: change_provider(document, "local", ProviderChanges(disabled=False)),
    )
    assert text == COMMENTED


def test_headers_and_mappings_are_merged_and_empty_values_take_out() -> None:
    def change(headers: dict[str, str], mapping: dict[str, str]) -> str:
        changes = ProviderChanges(headers=headers, model_mapping=mapping)
        return edited(COMMENTED, lambda document: change_provider(document, "fast", changes))

    provider = config(change({"x-a": "2", "X-B": "3"}, {"*": "m", "n": ""})).provider("fast")
    assert provider is not None
    assert provider.headers == {"X-A": "2", "X-B": "3"}
    assert provider.model_mapping == {"*": "m"}
    provider = config(change({"X-A": ""}, {})).provider("fast")
    assert provider is not None
    assert provider.headers == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[primary]\n",
        "[primary]\nretry = 1\n\n# next\n[log]\nlevel = 'info'\n",
        "primary = { retry = 1 }\n",
        "primary.retry = 1\n",
        COMMENTED,
    ],
)
def test_the_primary_is_changed_where_it_stands(text: str) -> None:
    changes = ProviderChanges(retry=4, disabled=True, headers={"X-A": "1"})
    result = edited(text, lambda document: change_provider(document, "anthropic-primary", changes))
    primary = config(result).primary
    assert (primary.retry, primary.disabled, primary.headers) == (4, True, {"X-A": "1"})
    if "# next" in text:
        assert "\n\n# next\n[log]" in result


@pytest.mark.parametrize(
    "text",
    [
        'providers = [{ name = "a", base_url = "https://a.example" }]\n',
        "providers = [\n  # first\n"
        '  { name = "a", base_url = "https://a.example" }, # one\n]\n\n[log]\nlevel = "info"\n',
        "providers = []\n[log]\nlevel = 'info'\n",
        '[[providers]]\nname = "a"\nbase_url = "https://a.example"\nheaders.X-A = "1"\n'
        "[log]\nlevel = 'info'\n"
        '[[providers]]\nname = "z"\nbase_url = "https://z.example"\n',
        '  [[providers]]\n  name = "a"\n  base_url = "https://a.example"\n'
        '  [providers.headers]\n  X-A = "1"\n',
    ],
)
def test_other_ways_to_write_providers_work_too(text: str) -> None:
    before = names(text)
    text = edited(text, lambda document: add_provider(document, "b", URL))
    assert names(text) == [*before, "b"]
    text = edited(text, lambda document: move_provider(document, "b", 1))
    assert names(text) == ["b", *before]
    changes = ProviderChanges(retry=2, headers={"X-B": "2"})
    text = edited(text, lambda document: change_provider(document, (before or ["b"])[0], changes))
    changed = config(text).provider((before or ["b"])[0])
    assert changed is not None
    assert (changed.retry, changed.headers["X-B"]) == (2, "2")
    text = edited(text, lambda document: remove_providers(document, ["b"]))
    assert names(text) == [name for name in before if name != "b"]


def test_a_name_that_is_taken_is_an_error_that_says_what_to_do() -> None:
    for name in ("fast", "anthropic-primary"):
        with pytest.raises(ConfigError) as caught:
            add_provider(Document(COMMENTED), name, URL)
        assert f"ccfallback providers set {name}" in caught.value.hint


def test_an_unknown_name_is_an_error_with_the_nearest_one() -> None:
    document = Document(COMMENTED)
    with pytest.raises(ProviderNotFound) as caught:
        change_provider(document, "fats", URL)
    assert "fast" in caught.value.hint
    with pytest.raises(ProviderNotFound) as caught:
        move_provider(document, "zzzzz", 1)
    assert "cheap" in caught.value.hint
    assert document.text == COMMENTED


def test_places_count_from_one_and_the_primary_has_none() -> None:
    document = Document(COMMENTED)
    with pytest.raises(ConfigError):
        move_provider(document, "fast", 0)
    with pytest.raises(ConfigError):
        move_provider(document, "anthropic-primary", 2)


def test_changes_show_no_secret() -> None:
    changes = ProviderChanges(api_key="sk-1", headers={"X-Api-Key": "sk-2"})
    assert repr(changes) == "ProviderChanges(api_key, headers)"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("true", True),
        ('"5"', "5"),
        ("plain words", "plain words"),
        ("[1, 2]", [1, 2]),
        ('{ a = "b" }', {"a": "b"}),
        ("1\nother = 2", "1\nother = 2"),
        ("", ""),
    ],
)
def test_a_text_that_is_a_toml_value_means_that_value(text: str, value: Any) -> None:
    assert parse_value(text) == value


def test_a_new_key_stays_above_the_next_tables_comment() -> None:
    document = Document("[server]\nport = 1\n\n# log\n[log]\n")
    set_key(document, "server.host", "::1")
    assert document.text == '[server]\nport = 1\nhost = "::1"\n\n# log\n[log]\n'


WITH_TOKENS = """\
# mine
[server]
port = 1

# the laptop's
[[tokens]]
token = "one"  # since May

[[tokens]]
token = "two"
note = "phone"

# the spare
[[providers]]
name = "a"
"""


def test_a_token_is_added_after_the_others() -> None:
    document = Document(WITH_TOKENS)
    add_token(document, "three", "tablet")
    before, after = WITH_TOKENS.split("\n# the spare")
    added = '\n[[tokens]]\ntoken = "three"\nnote = "tablet"\n'
    assert document.text == f"{before}{added}\n# the spare{after}"


def test_the_first_token_of_an_empty_file() -> None:
    document = Document("")
    add_token(document, "one", "")
    assert document.text == '[[tokens]]\ntoken = "one"\n'


def test_a_token_leaves_with_its_comment() -> None:
    document = Document(WITH_TOKENS)
    remove_tokens(document, {0})
    assert "laptop" not in document.text
    assert "since May" not in document.text
    assert document.text.count("[[tokens]]") == 1
    assert "# the spare\n[[providers]]" in document.text


def test_all_tokens_may_go() -> None:
    document = Document(WITH_TOKENS)
    remove_tokens(document, [0, 1])
    assert "tokens" not in document.text
    assert tomllib.loads(document.text) == {"server": {"port": 1}, "providers": [{"name": "a"}]}


def test_an_inline_array_stays_inline() -> None:
    document = Document('tokens = [{ token = "one" }]\n')
    add_token(document, "two", "")
    assert document.text == 'tokens = [{ token = "one" }, {token = "two"}]\n'
    remove_tokens(document, [0])
    assert tomllib.loads(document.text) == {"tokens": [{"token": "two"}]}


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
def test_a_text_is_cut_without_loss(text: str) -> None:
    assert _join(*_split(text)) == text


@given(documents(), st.data())
def test_a_move_keeps_every_comment_and_value(text: str, data: st.DataObject) -> None:
    document = Document(text)
    before = tomllib.loads(text)
    count = len(before["providers"])
    index, to = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, count - 1))
    document.move("providers", index, to)
    before["providers"].insert(to, before["providers"].pop(index))
    assert tomllib.loads(document.text) == before
    assert comments(document.text) == comments(text)


@given(documents(), st.data())
def test_a_removal_removes_one_provider_and_nothing_else(text: str, data: st.DataObject) -> None:
    document = Document(text)
    before = tomllib.loads(text)
    index = data.draw(st.integers(0, len(before["providers"]) - 1))
    document.remove("providers", index)
    del before["providers"][index]
    if not before["providers"]:
        del before["providers"]
    assert tomllib.loads(document.text) == before


@given(documents(), st.data())
def test_an_addition_adds_one_provider_and_nothing_else(text: str, data: st.DataObject) -> None:
    document = Document(text)
    before = tomllib.loads(text)
    index = data.draw(st.integers(0, len(before["providers"])))
    document.insert("providers", index, {"name": "new"})
    before["providers"].insert(index, {"name": "new"})
    assert tomllib.loads(document.text) == before
    assert comments(document.text) == comments(text)


@given(documents(), st.data())
def test_a_change_keeps_every_comment_and_other_value(text: str, data: st.DataObject) -> None:
    document = Document(text)
    before = tomllib.loads(text)
    index = data.draw(st.integers(0, len(before["providers"]) - 1))

    def edit(table: Any) -> None:
        table["new"] = 1
        table.setdefault("headers", {})["Y"] = 2

    document.change("providers", index, edit)
    edit(before["providers"][index])
    assert tomllib.loads(document.text) == before
    assert comments(document.text) == comments(text)


@given(documents(), st.sampled_from(["log", "a", "server", "zz", "unheard"]))
def test_a_changed_section_keeps_every_comment_and_other_value(text: str, name: str) -> None:
    document = Document(text)
    before = tomllib.loads(text)
    document.change(name, None, lambda table: table.update(new=1))
    before.setdefault(name, {})["new"] = 1
    assert tomllib.loads(document.text) == before
    assert comments(document.text) == comments(text)


def test_a_header_inside_a_value_is_not_a_header() -> None:
    text = '''[log]
a = """
[[providers]]
# not a comment"""
b = [
[1],
]
# b's

# x's
[[providers]] # one
name = "x"
'''
    blocks, _ = _split(text)
    assert [block.path for block in blocks] == [(), ("log",), ("providers",)]
    assert blocks[1].body.endswith("]\n# b's\n")
    assert blocks[2].lead == "\n# x's\n"


@pytest.mark.parametrize(
    "text",
    [
        '[[providers]]\nname = "a"\n[log]\nlevel = "info"\n[providers.headers]\nX = "1"\n',
        '[["providers"]]\nname = "a"\n["providers".headers]\nX = "1"\n',
    ],
)
def test_a_change_is_right_or_refused(text: str) -> None:
    before = tomllib.loads(text)["providers"]
    document = Document(text)
    with suppress(ConfigError):
        document.insert("providers", 1, {"name": "b"})
        assert tomllib.loads(document.text)["providers"] == [*before, {"name": "b"}]
    document = Document(text)
    with suppress(ConfigError):
        document.remove("providers", 0)
        assert "providers" not in tomllib.loads(document.text)


@pytest.mark.parametrize("text", ["", "providers = []\n"])
def test_an_empty_list_has_no_tables(text: str) -> None:
    assert Document(text).tables("providers") == []
