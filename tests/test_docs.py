"""The README describes every feature, and its examples work."""

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

from ccfallback import __version__
from ccfallback.cli import COMMANDS, completions
from ccfallback.cli.root import app
from ccfallback.config import schema
from ccfallback.config.model import SECTIONS, Config, Provider, Token
from ccfallback.config.options import Option, options
from ccfallback.config.presets import presets
from ccfallback.config.quirks import Quirks
from ccfallback.events.records import EVENTS
from ccfallback.rectify import SWITCHES
from ccfallback.server import routes as server
from ccfallback.server.metrics import COUNTERS, GAUGES, HISTOGRAMS, PROCESS
from ccfallback.simulator import scripted
from ccfallback.wire import FORMATS
from tests.conftest import Chain

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")

SOURCES = sorted((ROOT / "ccfallback").rglob("*.py"))


def section(title: str) -> str:
    """The text of the README under a heading, up to the next heading of the same level."""
    return README.split(f"\n{title}\n")[1].split(f"\n{title.split()[0]} ")[0]


COMMAND_TABLE = section("## Commands")


@pytest.mark.parametrize("row", options(Quirks), ids=lambda row: row.key)
def test_the_table_of_quirks_is_that_of_the_program(row: Option) -> None:
    default = "none" if row.default is None else f"`{msgspec.json.encode(row.default).decode()}`"
    assert f"| `{row.key}` | {default} | {row.help} |" in README


@pytest.mark.parametrize(
    "row", [row for row in options(Provider, deep=True) if row.flag], ids=lambda row: row.path
)
def test_the_commands_have_every_flag_of_a_provider(row: Option) -> None:
    line = next(line for line in COMMAND_TABLE.splitlines() if line.startswith("| `providers add"))
    assert re.search(rf"{row.flag.partition('/')[0]}\b", line)


@pytest.mark.parametrize("name", SWITCHES)
def test_every_repair_is_documented(name: str) -> None:
    assert f"`{name}`" in section("### Repairs")


def leaves() -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []

    def walk(path: tuple[str, ...], command: Any) -> None:
        below = completions.commands(command)
        for name, one in below.items():
            walk((*path, name), one)
        if not below:
            found.append((path, command))

    walk((), typer.main.get_command(app))
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented(name: str) -> None:
    assert f"| `{name}" in COMMAND_TABLE


@pytest.mark.parametrize("path", [path for path, _ in leaves()], ids=" ".join)
def test_every_subcommand_is_documented(path: tuple[str, ...]) -> None:
    rows = [line for line in COMMAND_TABLE.splitlines() if line.startswith(f"| `{path[0]}")]
    assert re.search(rf"\b{path[-1]}\b", "\n".join(rows))


def test_no_other_command_is_documented() -> None:
    known = {path for path, _ in leaves()}
    named = {path[0] for path in known}
    for line in COMMAND_TABLE.splitlines():
        if row := re.match(r"\| `(\w+)", line):
            assert row[1] in named, line


def block_under(title: str) -> str:
    return section(title).split("```toml\n")[1].split("```")[0]


def test_the_configuration_in_the_readme_loads() -> None:
    table = tomllib.loads(block_under("## Configuration"))
    names = SWITCHES
    config = schema.parse(table, formats=FORMATS, rectifiers=lambda: names)
    assert [provider.name for provider in config.providers] == ["spare"]


def test_the_configuration_in_the_readme_is_the_default_one() -> None:
    table = tomllib.loads(block_under("## Configuration"))
    del table["providers"], table["tokens"]
    assert schema.parse(table, formats=FORMATS) == schema.parse({}, formats=FORMATS)
    assert isinstance(schema.parse({}, formats=FORMATS), Config)


def test_every_config_key_is_documented() -> None:
    block = section("## Configuration")
    keys = {*SECTIONS, *(row.key for row in options(*SECTIONS.values(), Token, deep=True))}
    assert {"port", "max_cooldown", "first_byte", "billing_header", "proxy", "note"} <= keys
    assert {key for key in keys if not re.search(rf"\b{key}\b", block)} == set()


def routes() -> list[str]:
    class Nothing:
        def __getattr__(self, _name: str) -> Any:
            return self

        def __call__(self, *_: object, **__: object) -> Any:
            return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "Gate", lambda app, _: app)
        app: Any = server.create_app(Nothing())  # type: ignore[arg-type]  # only its routes count
    return [*app.exact, *(f"{folder}/" for folder in (*app.members, *app.below))]


def test_every_route_is_documented() -> None:
    table = section("## HTTP")
    found = routes()
    assert "/v1/messages" in found
    for path in found:
        assert path == "/" or path in table
    assert "`GET /`" in table


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_documented(event: str) -> None:
    assert f"`{event}`" in section("## Log")


def test_no_other_event_is_documented() -> None:
    rows = [line.split("|")[1] for line in section("## Log").splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([a-z_]+\.[a-z_]+)`", " ".join(rows))) == set(EVENTS)


@cache
def variables() -> set[str]:
    """Our variables, and those of Claude Code, that the code names."""
    pattern = re.compile(r"""["']((?:CCFALLBACK|ANTHROPIC)_[A-Z_]+)["']""")
    return {name for source in SOURCES for name in pattern.findall(source.read_text("utf-8"))}


@pytest.mark.parametrize("name", sorted(variables()))
def test_every_variable_is_documented(name: str) -> None:
    assert f"`{name}`" in section("## Files")


def test_the_manual_has_every_variable_of_ours() -> None:
    page = completions.render_man_page()
    assert {name for name in variables() if name.startswith("CCFALLBACK_")} <= {
        name for name in variables() if name in page
    }


def test_every_preset_is_listed() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "ccfallback", "providers", "presets", "--json"],
        capture_output=True,
        check=True,
        timeout=20,
    )
    names = [preset["name"] for preset in msgspec.json.decode(listed.stdout)["presets"]]
    assert sorted(names) == sorted(presets())


def test_the_links_of_the_contents_work() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in README.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


RUN = re.findall(r"<!-- run -->\n```sh\n(.*?)```", README, re.DOTALL)


def test_many_examples_are_run() -> None:
    assert len(RUN) >= 6


def shell_lines() -> list[str]:
    """Every command line of ours in the README."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("ccfallback ")]


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


def test_the_documented_metrics_are_those_that_exist() -> None:
    section = README.split("## Metrics")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| ", section, re.MULTILINE)
    listed = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert listed == {metric.name: metric.labels for metric in (*COUNTERS, *HISTOGRAMS, *GAUGES)}
    assert all(f"`{name}`" in section for name in PROCESS)


def test_the_changelog_has_this_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
