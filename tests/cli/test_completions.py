"""The scripts of the shells in `completions/`; `test_man.py` is about the man pages there."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfallback.cli import COMPLETION, candidates, completions, main
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


def test_the_commands_are_up_to_date() -> None:
    assert Path(candidates.TREE).read_bytes() == completions.render_commands(), (
        "run `python -m ccfallback.cli.completions`"
    )


Complete = Callable[..., list[str]]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Complete:
    """What bash is offered for the last of the words, in this process."""

    def run(*words: str, **environ: str) -> list[str]:
        line = {"COMP_WORDS": shlex.join(("ccfallback", *words)), "COMP_CWORD": str(len(words))}
        for name, value in {COMPLETION: "complete_bash", **line, **environ}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as left:
            main([])
        assert left.value.code == 0
        return capfd.readouterr().out.split()

    return run


@pytest.mark.usefixtures("two_providers")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sta"], ["status", "stats", "statusline"]),
        (["--c"], ["--config"]),
        (["providers", "sh"], ["show"]),
        (["providers", "enable", "one", ""], ["anthropic-primary", "two"]),
        (["providers", "move", "one", ""], []),
        (["providers", "move", "--to", ""], []),
        (["providers", "move", "--to=1", "o"], ["one"]),
        (["providers", "show", "--", "t"], ["two"]),
        (["providers", "show", "--json", "--js"], []),
        (["providers", "add", "x", "--map", "a=b", "--ma"], ["--map"]),
        (["providers", "add", "x", "--preset", "deep"], ["deepseek", "deepseek-openai"]),
        (["providers", "add", "x", "--quirk", "max_o"], ["max_output_tokens="]),
        (["requests", "--status", ""], ["success", "error", "stopped", "failover"]),
        (["requests", "--provider", "t"], ["two"]),
        (["config", "get", "server.p"], ["server.port"]),
        (["config", "set", "providers.two.ret"], ["providers.two.retry"]),
        (["config", "import", "--from", "cc"], ["cc-switch"]),
        (["help", "err"], ["errors"]),
        (["help", "breaker", "r"], ["reset"]),
        (["help", "nonsense", ""], []),
        (["nonsense", "x", ""], []),
    ],
)
def test_what_is_offered(complete: Complete, words: list[str], offered: list[str]) -> None:
    assert complete(*words) == offered


def test_notes_of_tokens_are_offered(complete: Complete, configure: Callable[[str], None]) -> None:
    configure('[[tokens]]\ntoken = "a"\nnote = "laptop"\n[[tokens]]\ntoken = "b"\n')
    assert complete("tokens", "remove", "") == ["laptop"]


def test_without_a_configuration_there_is_the_primary(complete: Complete) -> None:
    assert complete("providers", "show", "") == ["anthropic-primary"]


def test_a_quote_that_is_open_is_part_of_the_word(complete: Complete) -> None:
    assert complete("x", COMP_WORDS="ccfallback 'prov", COMP_CWORD="1") == ["providers"]


@pytest.mark.usefixtures("two_providers")
@pytest.mark.parametrize(
    ("shell", "environ", "shown"),
    [
        ("zsh", {}, """_arguments '*: :(("anthropic-primary"\n"one"\n"two"))'"""),
        ("fish", {}, "anthropic-primary\none\ntwo"),
        ("powershell", {}, "anthropic-primary::: \none::: \ntwo::: "),
        ("powershell", {"_TYPER_COMPLETE_WORD_TO_COMPLETE": "t"}, "two::: "),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "ccfallback providers sh"}, None),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "ccfallback config import "}, "_files"),
        ("fish", {"_TYPER_COMPLETE_ARGS": "ccfallback"}, None),
    ],
)
def test_the_form_of_each_shell(
    capfd: pytest.CaptureFixture[str], shell: str, environ: dict[str, str], shown: str | None
) -> None:
    word = environ.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
    line = {"_TYPER_COMPLETE_ARGS": f"ccfallback providers show {word}"}
    asked = {**os.environ, COMPLETION: f"complete_{shell}", **line, **environ}
    assert candidates.answer(asked, COMPLETION) == 0
    out = capfd.readouterr().out
    if shown is not None:
        assert out == f"{shown}\n"
    elif shell == "zsh":
        assert out == """_arguments '*: :(("show":"Show everything about one provider."))'\n"""
    else:
        assert "status\tShow whether the proxy is up" in out


@pytest.mark.parametrize(("line", "code"), [("providers sh", 0), ("providers show x ", 1)])
def test_fish_is_told_whether_there_is_anything(line: str, code: int) -> None:
    asked = {
        COMPLETION: "complete_fish",
        "_TYPER_COMPLETE_FISH_ACTION": "is-args",
        "_TYPER_COMPLETE_ARGS": f"ccfallback {line}",
    }
    assert candidates.answer(asked, COMPLETION) == code


@pytest.mark.usefixtures("program", "two_providers")
def test_a_tab_imports_no_library_that_takes_long() -> None:
    asked = {
        COMPLETION: "complete_bash",
        "COMP_WORDS": "ccfallback providers show ",
        "COMP_CWORD": "3",
    }
    script = (
        "import sys; from ccfallback.cli import main\ntry: main([])\nfinally: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **asked}, capture_output=True, check=True
    )
    names = done.stdout.decode().split()
    assert names[:3] == ["anthropic-primary", "one", "two"]
    assert not {"typer", "rich", "msgspec", "ccfallback.config", "asyncio"}.intersection(names)


@pytest.mark.parametrize(
    ("shell", "needs"),
    [("bash", "bash-completion"), ("zsh", "fpath"), ("fish", ""), ("pwsh", "PROFILE")],
)
def test_the_script_is_installed_where_the_shell_looks(
    ccf: Run, home: Path, monkeypatch: pytest.MonkeyPatch, shell: str, needs: str
) -> None:
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    name = "powershell" if shell == "pwsh" else shell
    ran = ccf("completion", "--install", "--json")
    path = Path(ran.json["path"])
    assert path.is_relative_to(home)
    assert ran.json == {"shell": name, "path": str(path), "changed": True}
    assert path.read_text(encoding="utf-8") == completions.render_script(name)
    assert f"undo: `rm {path}`" in ran.err
    assert needs in ran.err
    assert ccf("completion", name, "--install", "--json").json["changed"] is False


def test_the_variable_of_a_shell_decides_where(
    ccf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "a b"))
    ran = ccf("completion", "fish", "--install")
    path = tmp_path / "a b" / "fish" / "completions" / "ccfallback.fish"
    assert path.exists()
    assert f"undo: `rm '{path}'`" in ran.err


def test_a_place_that_cannot_be_written_is_an_error(
    ccf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fish").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    ran = ccf("completion", "fish", "--install")
    assert (ran.code, "can't be written" in ran.err) == (1, True)


def test_a_shell_without_a_script_is_named(ccf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    ran = ccf("completion", "--install")
    assert (ran.code, "no script for tcsh" in ran.err) == (1, True)
