"""Tokens come and go, and every comment stays with what it is about."""

import tomlkit

from ccfallback.config.token_edit import add_token, remove_tokens

TEXT = """\
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
    document = tomlkit.parse(TEXT)
    add_token(document, "three", "tablet")
    before, after = TEXT.split("\n# the spare")
    added = '\n[[tokens]]\ntoken = "three"\nnote = "tablet"\n'
    assert document.as_string() == f"{before}{added}\n# the spare{after}"


def test_the_first_token_of_an_empty_file() -> None:
    document = tomlkit.parse("")
    add_token(document, "one", "")
    assert document.as_string() == '[[tokens]]\ntoken = "one"\n'


def test_a_token_leaves_with_its_comment() -> None:
    document = tomlkit.parse(TEXT)
    remove_tokens(document, {0})
    assert "laptop" not in document.as_string()
    assert "since May" not in document.as_string()
    assert document.as_string().count("[[tokens]]") == 1
    assert "# the spare\n[[providers]]" in document.as_string()


def test_all_tokens_may_go() -> None:
    document = tomlkit.parse(TEXT)
    remove_tokens(document, [0, 1])
    assert "tokens" not in document
    assert document.unwrap() == {"server": {"port": 1}, "providers": [{"name": "a"}]}


def test_an_inline_array_stays_one() -> None:
    document = tomlkit.parse('tokens = [{ token = "one" }]\n')
    add_token(document, "two", "")
    assert document.as_string() == 'tokens = [{ token = "one" }, {token = "two"}]\n'
    remove_tokens(document, [0])
    assert document.unwrap() == {"tokens": [{"token": "two"}]}
