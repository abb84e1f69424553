"""The man pages in `completions/`: ccfallback(1), and one for each topic of `help`."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from ccfallback import __version__
from ccfallback.cli import COMMANDS
from ccfallback.cli.help.man import render_all
from ccfallback.cli.help.topics import TOPICS

FOLDER = Path(__file__).parents[2] / "completions"
PAGES = render_all()

every_page = pytest.mark.parametrize("path", PAGES)


@every_page
def test_the_pages_are_up_to_date(path: str) -> None:
    assert (FOLDER / path).read_text(encoding="utf-8") == PAGES[path], (
        "run `python -m ccfallback.cli.completions`"
    )


def test_there_are_pages_for_commands_files_and_everything_else() -> None:
    assert len(PAGES) == 1 + len(TOPICS)
    assert {path.split("/")[0] for path in PAGES} == {"man1", "man5", "man7"}
    assert "man5/ccfallback-config.5" in PAGES


def test_a_wheel_installs_every_page_and_script() -> None:
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text("utf-8"))
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    installed = {Path(path).name for path in shared}
    assert {path.name for path in FOLDER.iterdir()} - installed == {"ccfallback.ps1"}
    assert shared["completions/man5"] == "share/man/man5"


def test_the_first_page_has_this_version_and_every_command() -> None:
    page = PAGES["man1/ccfallback.1"]
    assert f'"ccfallback {__version__}"' in page
    for name in COMMANDS:
        assert f"\n.SS ccfallback {name} " in page
    for title in ("FILES", "ENVIRONMENT", "EXIT STATUS"):
        assert f"\n.SH {title}\n.TP\n" in page


@every_page
def test_no_text_is_a_roff_request(path: str) -> None:
    known = {".TH", ".SH", ".SS", ".PP", ".TP", ".IP", ".B", ".nf", ".fi", ".RS", ".RE"}
    lines = PAGES[path].splitlines()
    assert {line.split()[0] for line in lines if line.startswith(".")} <= known
    assert not [line for line in lines if line.startswith("'")]


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
@every_page
def test_groff_has_no_warnings(path: str) -> None:
    ran = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-rLL=80n", FOLDER / path],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert ran.stderr == b""
    plain = re.sub(r".\x08|\x1b\[\d+m", "", ran.stdout.decode())
    if path.endswith("ccfallback.1"):
        assert "--api-key-stdin" in plain
    if path.endswith("config.5"):
        assert 'host = "127.0.0.1"' in plain


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
@every_page
def test_mandoc_complains_only_of_the_missing_date(path: str) -> None:
    ran = subprocess.run(
        ["mandoc", "-Tlint", FOLDER / path], capture_output=True, check=False, text=True, timeout=30
    )
    assert [line for line in ran.stdout.splitlines() if "missing date" not in line] == []
