"""The scripts of the shells in `completions/`; `test_man.py` is about the man pages there."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ccfallback.cli import completions
from tests.cli.conftest import Run

FOLDER = Path(__file__).parents[2] / "completions"


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
    made, kept = ({path.relative_to(top) for path in top.rglob("*")} for top in (folder, FOLDER))
    assert made == kept


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


@pytest.mark.parametrize("shell", completions.SCRIPTS)
def test_the_script_of_a_shell_is_printed(ccf: Run, shell: str) -> None:
    script = completions.render_script(shell)
    assert ccf("completion", shell).out == script
    assert ccf("completion", shell, "--json").json == {"shell": shell, "script": script}


def test_an_unknown_shell_is_a_wrong_usage(ccf: Run) -> None:
    ran = ccf("completion", "tcsh")
    assert (ran.code, ran.out) == (2, "")
    assert "powershell" in ran.err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.usefixtures("program")
def test_bash_completes_topics_and_the_commands_below_commands() -> None:
    assert complete_in_bash("help", "exit") == ["exit-codes"]
    assert complete_in_bash("help", "providers", "sh") == ["show"]
    assert complete_in_bash("completion", "f") == ["fish"]


@pytest.mark.parametrize(("shell", "name"), [("zsh", "_ccfallback"), ("bash", "ccfallback.bash")])
def test_the_shells_accept_the_scripts(shell: str, name: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    subprocess.run([shell, "-n", FOLDER / name], check=True)
