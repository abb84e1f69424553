"""`ccfallback help`: topics, commands and error codes, on a terminal and in a pipe."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfallback.cli import COMMANDS, HELP
from ccfallback.cli.help import screen, topics
from ccfallback.cli.help.markup import (
    Block,
    Code,
    Entries,
    Entry,
    Heading,
    Items,
    Paragraph,
    parse,
    sentence,
)
from ccfallback.error_codes import ErrorCode
from tests.cli.conftest import Run

every_topic = pytest.mark.parametrize("name", topics.TOPICS)
every_code = pytest.mark.parametrize("code", ErrorCode)

SAMPLE = """\
A paragraph
of two lines with `code`.

## A section

- one
  item
- another

a term, a second
: What it means,
  on two lines
`b`
: other

c
: `more`

<!-- run -->
```sh
ccfallback help   # as it is

ccfallback status
```

{{rows of-this}}
"""


def test_markup_is_read_into_blocks() -> None:
    blocks = parse(SAMPLE, lambda name, argument: [Paragraph(f"{name}: {argument}")])
    assert blocks == [
        Paragraph("A paragraph of two lines with `code`."),
        Heading("A section"),
        Items(["one item", "another"]),
        Entries(
            [
                Entry("a term, a second", "What it means, on two lines."),
                Entry("`b`", "Other."),
                Entry("c", "`more`"),
            ]
        ),
        Code(["ccfallback help   # as it is", "", "ccfallback status"]),
        Paragraph("rows: of-this"),
    ]


def test_a_page_is_drawn_in_any_width_with_commands_in_one_piece() -> None:
    text = "Say `ccfallback providers add NAME` and then " + "word " * 20
    blocks: list[Block] = [
        Heading("Part"),
        Paragraph(text),
        Entries([Entry("`a`", text), Entry("long" * 8, "x")]),
    ]
    for width in (40, 60, 80, 200):
        drawn = screen.render("Title", blocks, width)
        assert max(map(len, drawn.splitlines())) <= min(width, screen.WIDEST)
        assert drawn.count("`ccfallback providers add NAME`") == 2
        assert "\n\nPART\n\n" in drawn
        assert "\x1b" not in drawn
    coloured = screen.render("Title", blocks, 80, colour=True)
    assert "\x1b[36mccfallback providers add NAME\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured).replace("`", "") == screen.render(
        "Title", blocks, 80
    ).replace("`", "")


def test_help_alone_lists_all_topics_in_groups(ccf: Run) -> None:
    shown = ccf("help").out
    for group, found in topics.GROUPS.items():
        assert f"\n{group.upper()}\n" in shown
        assert all(f"  {name}" in shown and topic.title in shown for name, topic in found.items())
    listed = ccf("help", "--json").json["topics"]
    assert [each["name"] for each in listed] == list(topics.TOPICS)


@every_topic
def test_a_page_is_plain_text_in_a_pipe(ccf: Run, name: str) -> None:
    ran = ccf("help", name)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"ccfallback {name}: {topics.TOPICS[name].title}\n\n")
    assert "{{" not in ran.out
    assert "\x1b" not in ran.out
    too_long = [line for line in ran.out.splitlines() if len(line) > 80]
    assert [line for line in too_long if not line.startswith("    ") or "  " not in line] == []


@every_topic
def test_a_topic_as_json_has_its_text(ccf: Run, name: str) -> None:
    document = ccf("help", name, "--json").json
    assert document["topic"] == name
    assert len(document["text"]) > 300


def test_an_explanation_of_a_term_begins_with_one_colon() -> None:
    # Anything else would be shown as it stands.
    for page in (Path(screen.__file__).parent / "pages").glob("*.md"):
        assert re.findall(r"^:(?! \S).*", page.read_text("utf-8"), re.MULTILINE) == [], page.name


def test_help_of_a_command_is_that_of_the_command_itself(ccf: Run) -> None:
    for path in (["serve"], ["providers", "move"], ["logs"], ["logs", "tail"], ["help"]):
        assert ccf("help", *path).out == ccf(*path, "--help").out


@pytest.mark.parametrize("words", [["confg"], ["providers", "shwo"], ["E999"], ["exit-code"]])
def test_an_unknown_word_is_a_wrong_usage_with_what_to_do(ccf: Run, words: list[str]) -> None:
    ran = ccf("help", *words)
    assert (ran.code, ran.out) == (2, "")
    assert "did you mean" in ran.err or "lists the topics" in ran.err


def test_the_nearest_topic_is_named(ccf: Run) -> None:
    assert "did you mean metrics?" in ccf("help", "metric").err
    assert "did you mean show?" in ccf("help", "providers", "shwo").err


# -- Error codes


@every_code
def test_every_code_is_explained(ccf: Run, code: ErrorCode) -> None:
    document = ccf("help", code, "--json").json
    assert document["code"] == code
    assert all(document[part] for part in ("title", "cause", "check", "remedy"))
    shown = ccf("help", code.removeprefix("CCF-").lower()).out
    assert shown.startswith(f"{code}: {document['title']}\n")
    assert all(f"\n  {part}" in shown for part in ("Cause", "Check", "Remedy"))


def test_no_other_code_is_explained() -> None:
    titles = topics.split(topics.read("errors"))
    codes = [title.partition(":")[0] for title in titles if title.startswith("CCF-")]
    assert codes == list(ErrorCode)


@every_code
def test_every_code_is_used(code: ErrorCode) -> None:
    package = Path(topics.__file__).parents[2]
    uses = [
        path
        for path in package.rglob("*.py")
        if f"ErrorCode.{code.name}" in path.read_text("utf-8") and path.name != "error_codes.py"
    ]
    assert uses


def test_an_error_of_a_command_ends_with_its_code(
    ccf: Run, configure: Callable[[str], None]
) -> None:
    configure("port = ")
    assert "[CCF-E201]\n" in ccf("config", "validate").err
    assert ccf("providers", "list", "--json").json["code"] == "CCF-E201"
    configure("[server]\nprot = 1\nhots = 2\n")
    first, *faults = ccf("config", "validate").err.splitlines()
    assert first.endswith("[CCF-E201]")
    assert len(faults) == 2
    empty = ccf("config", "import", "-", given=" ")
    assert empty.err.endswith("[CCF-E205]\n")
    configure("")
    assert "[CCF" not in ccf("providers", "show", "nosuch").err


# -- The first screen


def test_the_help_of_the_program_fits_a_screen_of_24_lines(
    ccf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = ccf("--help").out.splitlines()
    assert len(lines) <= 23, "the last line is for the prompt"
    assert max(map(len, lines)) <= 80


def test_every_command_has_one_place_in_the_help() -> None:
    named = [name for rows in HELP.values() for names in rows for name in names.split(", ")]
    assert sorted(named) == sorted(COMMANDS)


# -- The pager


@pytest.fixture
def pager(tmp_path: Path) -> Callable[[], str]:
    """A pager that keeps what it gets; returns that."""
    program = tmp_path / "my pager"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$LESS" "$@" >"{tmp_path}/out"\ncat >>"{tmp_path}/out"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    return lambda: (tmp_path / "out").read_text("utf-8") if (tmp_path / "out").exists() else ""


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal of POSIX")
def test_a_page_goes_through_the_pager_on_a_terminal(
    ccf_screen: Callable[..., str], pager: Callable[[], str], tmp_path: Path
) -> None:
    shown = ccf_screen("help", "http", columns=80, PAGER=f'"{tmp_path}/my pager" -x')
    assert shown == ""
    assert pager().startswith("FRX\n-x\nccfallback http: ")
    assert pager().endswith("\n")


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal of POSIX")
@pytest.mark.parametrize(
    "environ",
    [{"NO_PAGER": "1"}, {"PAGER": ""}, {"PAGER": "no-such-pager"}, {"TERM": "dumb"}],
    ids=lambda environ: "".join(environ),
)
def test_without_a_pager_a_page_is_printed(
    ccf_screen: Callable[..., str],
    pager: Callable[[], str],
    tmp_path: Path,
    environ: dict[str, str],
) -> None:
    shown = ccf_screen("help", "http", columns=60, **{"PAGER": f"'{tmp_path}/my pager'", **environ})
    assert shown.startswith("ccfallback http: ")
    assert max(map(len, shown.splitlines())) <= 60 or "code" in shown
    assert pager() == ""


def test_the_words_of_a_command_may_be_one_argument(ccf: Run) -> None:
    assert ccf("help", "breaker reset").out == ccf("help", "breaker", "reset").out


def test_a_key_at_the_start_of_a_sentence_stays_a_key() -> None:
    assert sentence("server.host is not loopback") == "server.host is not loopback."
    assert sentence("the file") == "The file."
