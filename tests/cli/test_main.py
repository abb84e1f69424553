"""How errors become one line and an exit code."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfallback import __version__
from ccfallback.cli import COMMANDS
from ccfallback.cli.help.commands import summary
from ccfallback.cli.root import LazyCommands
from ccfallback.paths import Paths
from tests.cli.conftest import Run


def test_version_prints_the_version(ccf: Run) -> None:
    assert ccf("--version").out == f"ccfallback {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("--config", "x")])
def test_without_a_command_usage_is_wrong_and_help_is_shown(
    ccf: Run, arguments: tuple[str, ...]
) -> None:
    ran = ccf(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == ccf("--help").out


def test_wrong_usage_is_2(ccf: Run) -> None:
    assert ccf("providers", "shwo").code == 2
    assert ccf("providers", "list", "--jsn").code == 2


def test_a_fault_of_the_config_is_one_line_with_file_line_key_and_expectation(
    ccf: Run, configure: Callable[[str], None], paths: Paths
) -> None:
    configure('[[providers]]\nname = "a"\nbase_url = "https://a.test"\n\nauth_headr = "x"\n')
    ran = ccf("providers", "list")
    assert (ran.code, ran.out) == (1, "")
    fault = "providers.a.auth_headr: unknown key; did you mean auth_header?"
    fix = "fix it with `ccfallback config edit`"
    assert ran.err == f"ccfallback: {paths.config}:5: {fault}; {fix} [CCF-E201]\n"


def test_each_of_several_faults_has_a_line(
    ccf: Run, configure: Callable[[str], None], paths: Paths
) -> None:
    configure("[server]\nport = 99999\n\nhots = 1\n")
    ran = ccf("providers", "list")
    assert (ran.code, ran.out) == (1, "")
    head, *faults = ran.err.splitlines()
    assert head.startswith(f"ccfallback: {paths.config} has 2 faults; ")
    assert faults == [
        "config.toml:2: server.port: found 99999, expected a whole number from 0 to 65535",
        "config.toml:4: server.hots: unknown key; did you mean host?",
    ]
    error = ccf("providers", "list", "--json").json["error"]
    assert all(fault in error["message"] for fault in faults)
    assert "\n" not in error["message"]


def test_a_failure_with_json_prints_json(ccf: Run, configure: Callable[[str], None]) -> None:
    configure("[server]\nport = 99999\n")
    ran = ccf("breaker", "status", "--json")
    assert ran.code == 1
    assert set(ran.json["error"]) == {"message", "hint"}
    assert "server.port" in ran.json["error"]["message"]
    assert ran.err.startswith("ccfallback: ")


def test_an_unexpected_error_is_one_line_unless_debugging(
    ccf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccfallback.cli.session import Session

    def broken(self: Session, **_: object) -> None:
        raise KeyError("sk-abcdefghijklmnop")

    monkeypatch.setattr(Session, "config_in_use", broken)
    ran = ccf("providers", "list")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
    assert "abcdefghijklmnop" not in ran.err
    assert "CCFALLBACK_DEBUG" in ran.err
    monkeypatch.setenv("CCFALLBACK_DEBUG", "1")
    with pytest.raises(KeyError):
        ccf("providers", "list")


def test_an_interrupt_is_130(ccf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ccfallback.cli.session import Session

    def interrupted(self: Session, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "config_in_use", interrupted)
    assert ccf("providers", "list").code == 130


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.parametrize("arguments", [("providers", "list"), ("logs", "tail"), ("--help",)])
def test_a_closed_pipe_is_not_a_failure(
    arguments: tuple[str, ...], two_providers: None, own_files: None
) -> None:
    # The reader is gone before the first byte.
    process = subprocess.Popen(
        [sys.executable, "-m", "ccfallback", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(20) == 0
    assert "Broken pipe" not in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("traced_processes")
def test_root_options_apply_to_every_command(
    ccf_process: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = tmp_path_factory.mktemp("other") / "own.toml"
    ran = ccf_process(
        "--config", str(config), "providers", "add", "p", "--base-url", "http://localhost:1"
    )
    assert ran.code == 0
    assert 'name = "p"' in config.read_text()


HEAVY = {"pydantic", "rich", "httpx", "anyio", "ccfallback.cli.serve"}

IMPORTED = """
import sys
from ccfallback.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("providers", "list"),
        ("breaker", "status", "--json"),
        ("config", "path"),
        ("--state", "s.json", "config", "path"),
        ("--state", "s.json", "--log-file", "l.jsonl", "providers", "list", "--json"),
    ],
)
def test_a_command_imports_no_heavy_package_it_does_not_need(arguments: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments], capture_output=True, check=True, text=True
    )
    assert ran.stdout
    assert not HEAVY & set(ran.stderr.split())


def test_the_chain_is_listed_without_a_dataclass() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED, "providers", "list", "--json"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert "ccfallback.config.model" in ran.stderr
    assert "dataclasses" not in ran.stderr.split()


def test_the_list_of_commands_imports_none_of_them() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED, "--help"], capture_output=True, check=True, text=True
    )
    assert "status" in ran.stdout
    commands = {f"ccfallback.cli.{name}" for name in COMMANDS}
    assert not {*HEAVY, "typer", "msgspec", *commands} & set(ran.stderr.split())


@pytest.mark.parametrize(
    "arguments", [("--help",), ("-h",), ("providers", "list"), ("providers", "list", "--json")]
)
@pytest.mark.usefixtures("two_providers")
def test_what_is_printed_without_typer_is_what_typer_prints(
    ccf: Run, paths: Paths, arguments: tuple[str, ...]
) -> None:
    # With an option of the root command, typer parses the command line.
    assert ccf(*arguments) == ccf("--config", str(paths.config), *arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_agrees_with_the_help_of_each(name: str) -> None:
    command = LazyCommands(name="ccfallback").get_command(None, name)
    assert COMMANDS[name] == summary(command)


def in_shell(command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of a shell, in which `$CCF` is the program."""
    program = f"{sys.executable} -m ccfallback"
    return subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, "CCF": program, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.skipif(sys.platform == "win32", reason="the shell is POSIX's")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("$CCF providers list >&-", "can't write the output"),
        ("$CCF providers list --json >&-", "can't write the output"),
        ("$CCF demo >/dev/full", "can't write the output"),
        ("EDITOR='\"vim' $CCF config edit", "is not a command: No closing quotation"),
        ("$CCF logs tail -n 99999999999999999999", "no log yet"),
    ],
)
def test_what_a_shell_does_to_a_command_is_one_clear_line(command: str, said: str) -> None:
    if "/dev/full" in command and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    ran = in_shell(command)
    assert said in ran.stderr
    assert "bug" not in ran.stderr
    assert "report it" not in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.skipif(sys.platform == "win32", reason="the shell is POSIX's")
def test_a_demo_whose_reader_leaves_is_not_a_failure() -> None:
    ran = in_shell("{ $CCF demo; echo code $? >&2; } | head -1")
    assert "code 0" in ran.stderr
    assert "report it" not in ran.stderr


def test_an_interrupt_during_the_imports_is_quiet() -> None:
    code = (
        "import sys, ccfallback.cli\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'ccfallback.cli.root': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "ccfallback.cli.main(['status'])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, b"", b"")
