"""README and help pages describe every feature, and their examples work."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import typer
from starlette.routing import Route

from ccfallback import __version__
from ccfallback.cli.console import EXIT_MEANINGS
from ccfallback.cli.help import commands, topics
from ccfallback.cli.help.man import render_all
from ccfallback.cli.help.markup import Entries, Entry, Heading, Items, plain, sentence
from ccfallback.cli.root import app
from ccfallback.config import schema
from ccfallback.config.model import SECTIONS, Provider, Token
from ccfallback.config.options import Option, options
from ccfallback.config.presets import presets
from ccfallback.config.quirks import Quirks
from ccfallback.events.records import EVENTS
from ccfallback.rectify import SWITCHES
from ccfallback.server import routes as server
from ccfallback.server.metrics import COUNTERS, GAUGES, HISTOGRAMS, PROCESS
from ccfallback.simulator import scripted
from ccfallback.wire import FORMATS
from tests import pictures
from tests.conftest import Chain

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")

SOURCES = sorted((ROOT / "ccfallback").rglob("*.py"))


PAGES = {name: topics.source(name) for name in topics.TOPICS}
"""The text of each help page, as written."""

ENTRIES = {
    name: [
        Entry(plain(entry.term), entry.text)
        for block in topics.read(name)
        if isinstance(block, Entries)
        for entry in block.entries
    ]
    for name in topics.TOPICS
}
"""What each help page explains, with the tables of the program."""

TEXTS = {"README": README, **PAGES}


def terms(page: str) -> set[str]:
    """The terms that a page explains, and what it calls code."""
    words: set[str] = set()
    for term, text in ENTRIES[page]:
        words |= {term, *term.split(", "), *re.findall(r"`([^`]+)`", text)}
    return words


def leaves() -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []

    def walk(path: tuple[str, ...], command: Any) -> None:
        below = commands.below(command)
        for name, one in below.items():
            walk((*path, name), one)
        if not below:
            found.append((path, command))

    walk((), typer.main.get_command(app))
    return found


# -- The README


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 14_000


@pytest.mark.parametrize("path", [path for path, _ in leaves()], ids=" ".join)
def test_the_readme_names_every_command(path: tuple[str, ...]) -> None:
    table = README.split("## Everyday commands")[1].split("\n## ")[0]
    rows = [line for line in table.splitlines() if re.search(rf"`{path[0]}\b", line)]
    assert re.search(rf"\b{path[-1]}\b", "\n".join(rows))


def test_the_readme_names_every_topic() -> None:
    table = README.split("| topic | contents |")[1].split("\n\n")[0]
    assert sorted(
        re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.M)))
    ) == (sorted(topics.TOPICS))


def test_the_readme_names_every_section_of_the_configuration() -> None:
    assert [name for name in SECTIONS if f"`[{name}]`" not in README] == []


@pytest.mark.parametrize("text", [README, PAGES["config"]], ids=["README", "config"])
def test_the_examples_of_the_configuration_load(text: str) -> None:
    table = tomllib.loads(text.split("```toml\n")[1].split("```")[0])
    names = SWITCHES
    config = schema.parse(table, formats=FORMATS, rectifiers=lambda: names)
    assert [provider.name for provider in config.providers] == ["spare"]
    del table["providers"], table["tokens"]
    assert schema.parse(table, formats=FORMATS) == schema.parse({}, formats=FORMATS)


def test_the_pictures_are_up_to_date() -> None:
    assert pictures.redraw(README) == README, "run `python -m tests.pictures`"
    assert README.count("<!-- picture: ") == len(pictures.COMMANDS) == 2


# -- The help pages


def test_the_page_of_the_configuration_has_every_key_with_its_flag() -> None:
    rows = options(*SECTIONS.values(), Provider, Token, deep=True)
    assert {"port", "max_cooldown", "first_byte", "billing_header", "note"} <= {r.key for r in rows}
    for row in rows:
        if row not in options(Quirks):
            texts = [text for term, text in ENTRIES["config"] if term.split(" = ")[0] == row.path]
            assert any(row.flag.partition("/")[0] in text for text in texts), row.path
    titles = [block.text for block in topics.read("config") if isinstance(block, Heading)]
    assert {f"[{name}]" for name in SECTIONS} | {"[[providers]]", "[[tokens]]"} <= set(titles)


@pytest.mark.parametrize("row", options(Quirks), ids=lambda row: row.key)
def test_every_quirk_is_explained(row: Option) -> None:
    default = "" if row.default is None else f" = {msgspec.json.encode(row.default).decode()}"
    assert Entry(f"{row.key}{default}", sentence(row.help)) in ENTRIES["providers"]


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_listed(name: str) -> None:
    texts = [text for term, text in ENTRIES["providers"] if term == name]
    assert texts[0].startswith(presets()[name].title)


def test_every_repair_is_explained_and_no_other() -> None:
    assert sorted(term for term, _ in ENTRIES["repairs"]) == sorted(SWITCHES)


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_explained_with_its_data(event: str) -> None:
    text = dict(ENTRIES["log"])[f"{event} ({EVENTS[event].level})"]
    assert len(text.split("Data: ")[0]) > 10
    for field in msgspec.structs.fields(EVENTS[event]):
        assert f"`{field.encode_name}`" in text


def test_the_metrics_are_those_that_exist() -> None:
    known = (*COUNTERS, *HISTOGRAMS, *GAUGES)
    explained = dict(ENTRIES["metrics"])
    assert list(explained) == [metric.name for metric in known]
    for metric in known:
        about, _, labels = explained[metric.name].partition(" Labels: ")
        assert about == metric.help
        assert re.findall(r"`(\w+)`", labels) == list(metric.labels)
    listed = {
        name for block in topics.read("metrics") if isinstance(block, Items) for name in block.texts
    }
    assert {f"`{name}`" for name in PROCESS} <= listed
    queries = PAGES["metrics"].split("```promql")[1]
    names = {metric.name for metric in known}
    assert {
        name.removesuffix("_bucket") for name in re.findall(r"ccfallback_\w+", queries)
    } <= names


def routes() -> list[str]:
    found: list[Route] = []

    class Nothing:
        def __getattr__(self, _name: str) -> Any:
            return self

        def __call__(self, *_: object, **__: object) -> Any:
            return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "Gate", lambda *_: None)
        patch.setattr(server, "Routes", lambda listed, _: found.extend(listed))
        server.create_app(Nothing())  # type: ignore[arg-type]  # only its routes count
    return [route.path.partition("{")[0] for route in found]


def test_every_route_is_explained() -> None:
    found = routes()
    assert "/v1/messages" in found
    explained = {word.removeprefix("GET ").removeprefix("POST ") for word in terms("http")}
    for path in found:
        folder = path != "/" and path.endswith("/")
        assert any(each.startswith(path) if folder else each == path for each in explained), path


@cache
def variables() -> set[str]:
    """Our variables, and those of Claude Code, that the code names."""
    pattern = re.compile(r"""["']((?:CCFALLBACK|ANTHROPIC)_[A-Z_]+)["']""")
    return {name for source in SOURCES for name in pattern.findall(source.read_text("utf-8"))}


@pytest.mark.parametrize("name", sorted(variables()))
def test_every_variable_is_explained(name: str) -> None:
    assert name in terms("env")


def test_the_manual_has_every_variable_of_ours() -> None:
    page = render_all()["man1/ccfallback.1"]
    ours = {name for name in variables() if name.startswith("CCFALLBACK_")}
    assert len(ours) >= 4
    assert [name for name in ours if name not in page] == []


def test_every_exit_code_is_explained() -> None:
    for code, meaning in EXIT_MEANINGS.items():
        assert dict(ENTRIES["exit-codes"])[str(int(code))] == meaning


@pytest.mark.parametrize("page", PAGES)
def test_the_topics_and_commands_that_pages_name_exist(page: str) -> None:
    known = {path[: len(path) - end] for path, _ in leaves() for end in (0, 1)}
    for topic in re.findall(r"`ccfallback help ([a-z][a-z-]+)`", PAGES[page]):
        assert topic in topics.TOPICS
    for line in re.findall(r"`ccfallback ([a-z][^`]*)`", PAGES[page]):
        words = tuple(line.split()[:2])
        assert words in known or words[:1] in known, line


# -- The examples

RUN = [
    script
    for text in TEXTS.values()
    for script in re.findall(r"<!-- run -->\n```sh\n(.*?)```", text, re.DOTALL)
]


def test_many_examples_are_run() -> None:
    assert len(RUN) >= 4


def shell_lines() -> list[str]:
    """Every command line of ours in the README and the help pages."""
    blocks = re.findall(r"```sh\n(.*?)```", "\n".join(TEXTS.values()), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("ccfallback ")]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("line", shell_lines())
def test_the_commands_in_examples_exist(line: str) -> None:
    words = shlex.split(line, comments=True)
    known = {path for path, _ in leaves()}
    assert tuple(words[1:3]) in known or tuple(words[1:2]) in known


@pytest.fixture
def shell(tmp_path: Path, home: Path) -> Callable[[str, Path], str]:
    """Runs a script like a user, with `ccfallback` in PATH and its own home folder."""
    program = tmp_path / "bin" / "ccfallback"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ccfallback "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "desk"
    folder.mkdir()

    def run(script: str, log: Path) -> str:
        environ = {
            **os.environ,
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
            "CCFALLBACK_LOG_FILE": str(log),
            "SPARE_KEY": "a-key",
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=environ,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    return run


@pytest.mark.skipif(sys.platform == "win32", reason="the examples are for a POSIX shell")
@pytest.mark.parametrize("script", RUN, ids=lambda script: script.splitlines()[0])
def test_the_examples_run(
    script: str, shell: Callable[[str, Path], str], chain: Callable[..., Chain]
) -> None:
    started = chain(scripted.error(529, "overloaded_error", "Overloaded"), scripted.reply("well"))
    body = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"{started.url}/v1/messages", json=body, trust_env=False)
    assert answer.status_code == 200
    started.proxy.stop()
    assert shell(script, started.proxy.paths.log).strip()


def test_the_changelog_has_this_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
