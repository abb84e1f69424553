"""The files in `completions/`: the scripts of the shells and the man page."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ccfallback import __version__
from ccfallback.cli import COMMANDS, completions

FOLDER = Path(__file__).parents[2] / "completions"
PAGE = FOLDER / completions.MAN_PAGE


@pytest.mark.parametrize("shell", completions.SCRIPTS)
def test_the_scripts_are_up_to_date(shell: str) -> None:
    name, _ = completions.SCRIPTS[shell]
    assert (FOLDER / name).read_text(encoding="utf-8") == completions.render_script(shell), (
        "run `python -m ccfallback.cli.completions`"
    )


def test_all_files_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "completions"
    folder.mkdir()
    completions.write_all(folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in FOLDER.iterdir()}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `ccfallback` in PATH that runs this code."""
    program = tmp_path / "bin" / "ccfallback"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ccfallback "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")


BASH = """
source {file}
COMP_WORDS=({words}) COMP_CWORD={last}
_ccfallback_completion ccfallback
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def complete_in_bash(*words: str) -> list[str]:
    script = BASH.format(
        file=shlex.quote(str(FOLDER / "ccfallback.bash")),
        words=shlex.join(("ccfallback", *words)),
        last=len(words),
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.usefixtures("program", "two_providers")
def test_bash_completes_commands_and_providers() -> None:
    assert complete_in_bash("prov") == ["providers"]
    assert complete_in_bash("providers", "show", "") == ["anthropic-primary", "one", "two"]
    assert complete_in_bash("breaker", "reset", "one", "") == ["anthropic-primary", "two"]
    assert complete_in_bash("env", "--shell", "f") == ["fish"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.usefixtures("program")
def test_completion_reads_the_config_that_the_line_names(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[[providers]]\nname = "elsewhere"\nbase_url = "http://x.example"\n')
    line = ("--config", str(other), "providers", "show", "e")
    assert complete_in_bash(*line) == ["elsewhere"]
    other.write_text("broken = ")
    assert complete_in_bash(*line) == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.usefixtures("program", "two_providers")
def test_fish_completes() -> None:
    file = shlex.quote(str(FOLDER / "ccfallback.fish"))
    script = f"source {file}; complete -C 'ccfallback providers show t'"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split() == ["two"]


@pytest.mark.parametrize(("shell", "name"), [("zsh", "_ccfallback"), ("bash", "ccfallback.bash")])
def test_the_shells_accept_the_scripts(shell: str, name: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    subprocess.run([shell, "-n", FOLDER / name], check=True)


# -- The man page


def test_the_man_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == completions.render_man_page(), (
        "run `python -m ccfallback.cli.completions`"
    )


def test_the_man_page_has_this_version_and_every_command() -> None:
    page = completions.render_man_page()
    assert f'"ccfallback {__version__}"' in page
    for name in COMMANDS:
        assert f"\n.SS ccfallback {name} " in page


def test_no_text_of_the_man_page_is_a_roff_request() -> None:
    known = {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".nf", ".fi", ".RS", ".RE"}
    lines = completions.render_man_page().splitlines()
    assert {line.split()[0] for line in lines if line.startswith(".")} <= known
    assert not [line for line in lines if line.startswith("'")]


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_groff_has_no_warnings() -> None:
    ran = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", PAGE], capture_output=True, check=True, timeout=30
    )
    assert ran.stderr == b""
    plain = re.sub(r".\x08|\x1b\[\d+m", "", ran.stdout.decode())
    assert "--api-key-stdin" in plain


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
def test_mandoc_complains_only_of_the_missing_date() -> None:
    ran = subprocess.run(
        ["mandoc", "-Tlint", PAGE], capture_output=True, check=False, text=True, timeout=30
    )
    assert [line for line in ran.stdout.splitlines() if "missing date" not in line] == []
