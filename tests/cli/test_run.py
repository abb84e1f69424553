"""`run`: the child gets the proxy in its environment, and nothing else changes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ccfallback.paths import Paths
from ccfallback.simulator import scripted
from ccfallback.state import server_file
from tests.cli.conftest import Run
from tests.cli.test_env import listening
from tests.conftest import Chain

Configure = Callable[[str], None]

SHOW = "import os; print(*(os.environ.get(n) for n in {names}), sep='|')"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and shells are POSIX's")


def show(*names: str) -> tuple[str, ...]:
    """A command that prints variables."""
    return sys.executable, "-c", SHOW.format(names=list(names))


@pytest.fixture(autouse=True)
def refused(configure: Configure) -> None:
    """A configured port on which no server listens."""
    configure("[server]\nport = 1\n")


def test_the_running_server_is_used(ccf: Run, paths: Paths) -> None:
    with listening() as url:
        server_file.write(paths.server, url, 1, "1", 0.0)
        ran = ccf("run", "--", *show("ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS"))
    assert (ran.code, ran.out, ran.err) == (0, f"{url}|None\n", "")
    assert "ANTHROPIC_BASE_URL" not in os.environ


@pytest.mark.usefixtures("traced_processes")
@pytest.mark.parametrize(
    ("model", "end"), [("claude-opus-5", r"about \$0\.42"), ("m", "price unknown")]
)
def test_without_a_server_a_private_proxy_serves_quietly(
    ccf_process: Run,
    upstream: Callable[..., scripted.ScriptedUpstream],
    configure: Configure,
    paths: Paths,
    tmp_path: Path,
    model: str,
    end: str,
) -> None:
    # At $5 and $25 a million tokens.
    usage = {"input_tokens": 34_000, "output_tokens": 10_000}
    answer = msgspec.json.encode({**scripted.message("Hello"), "usage": usage})
    server = upstream(scripted.answer(200, answer))
    configure(f'[server]\nport = 1\n[primary]\nbase_url = "{server.url}"\n')
    script = tmp_path / "client.py"
    script.write_text(
        "import os, urllib.request\n"
        "url = os.environ['ANTHROPIC_BASE_URL'] + '/v1/messages'\n"
        f'body = b\'{{"model":"{model}","max_tokens":1,"messages":[]}}\'\n'
        "print(urllib.request.urlopen(urllib.request.Request(url, body)).read().decode())\n"
    )
    ran = ccf_process("run", sys.executable, str(script))
    assert ran.code == 0
    wait = rf"ccfallback: 1 request, none lost, longest wait \d+\.\d s, {end}\n"
    assert re.fullmatch(wait, ran.err)
    assert '"Hello"' in ran.out
    assert "request.complete" in paths.log.read_text()
    assert not paths.server.exists()


def test_the_proxy_of_a_run_is_visible(
    ccf_process: Run, ccf: Run, paths: Paths, tmp_path: Path
) -> None:
    script = tmp_path / "look.py"
    script.write_text(
        "import os, subprocess, sys\n"
        "outside = {k: v for k, v in os.environ.items() if k != 'ANTHROPIC_BASE_URL'}\n"
        "for words in (['status'], ['status', '--json'], ['top'], ['statusline'], ['doctor']):\n"
        "    command = [sys.executable, '-m', 'ccfallback', *words]\n"
        "    ran = subprocess.run(command, env=outside, capture_output=True, stdin=-3)\n"
        "    print('#', ran.returncode, ran.stdout.decode())\n"
        "print(os.environ['ANTHROPIC_BASE_URL'])\n"
    )
    killed = paths.private_server(999_999)
    server_file.write(killed, "http://127.0.0.1:1", 999_999, "1", 0.0)
    ran = ccf_process("run", sys.executable, str(script))
    _, status, as_json, top, line, doctor = ran.out.split("# ")
    doctor, url = doctor.strip().rsplit("\n", 1)
    assert status.startswith(f"0 ✓ up for `run` at {url}, pid ")
    assert msgspec.json.decode(as_json[2:])["servers"][0]["command"] == "run"
    assert msgspec.json.decode(as_json[2:])["url"] == url
    assert f"✓ up for `run` at {url}" in top
    assert "down" not in line
    assert "up for `run` only" in line
    assert f"a proxy for `run` answers at {url}" in doctor
    # Neither the file of the killed proxy nor the own one is left behind.
    assert paths.private_servers == []
    assert ccf("status").code == 1


def test_the_proxy_of_another_run_is_not_used(ccf: Run, paths: Paths, configure: Configure) -> None:
    with listening() as url:
        server_file.write(paths.private_server(1), url, 1, "1", 0.0)
        ran = ccf("run", "--", *show("ANTHROPIC_BASE_URL"))
    assert ran.out.strip() not in (url, "None")


@pytest.mark.usefixtures("traced_processes")
def test_the_requests_at_a_running_server_are_counted(
    ccf_process: Run,
    chain: Callable[..., Chain],
    paths: Paths,
    configure: Configure,
    tmp_path: Path,
) -> None:
    running = chain(scripted.error(529, "overloaded_error"), scripted.reply("Hello"))
    server_file.write(paths.server, running.url, os.getpid(), "1", 0.0)
    script = tmp_path / "client.py"
    script.write_text(
        "import os, sys, urllib.request\n"
        "url = os.environ['ANTHROPIC_BASE_URL'] + '/v1/messages'\n"
        'body = b\'{"model":"m","max_tokens":1,"messages":[]}\'\n'
        "urllib.request.urlopen(urllib.request.Request(url, body)).read()\n"
        "sys.exit(7)\n"
    )
    ran = ccf_process("run", sys.executable, str(script))
    assert ran.code == 7
    assert "ccfallback: 1 request, 1 by fallback1, none lost, longest wait " in ran.err


def test_all_words_after_the_command_belong_to_it(ccf: Run) -> None:
    ran = ccf(
        "run", sys.executable, "-c", "import sys; print(sys.argv[1:])", "--json", "--", "--help"
    )
    assert ran.out == "['--json', '--', '--help']\n"


@pytest.mark.parametrize("words", [(), ("-p", "hello"), ("--", "--resume")])
def test_claude_is_the_default_command(
    ccf: Run, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claude = tmp_path / "claude"
    claude.write_text('#!/bin/sh\necho "claude $*"\n')
    claude.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    options = " ".join(word for word in words if word != "--")
    assert ccf("run", *words).out == f"claude {options}\n"


def test_the_exit_code_is_that_of_the_child(ccf: Run) -> None:
    assert ccf("run", "sh", "-c", "exit 7").code == 7


def test_the_exit_code_after_a_signal_is_that_of_a_shell(ccf: Run) -> None:
    assert ccf("run", "sh", "-c", "kill -9 $$").code == 128 + 9


@pytest.mark.parametrize("words", [("no-such-command",), ("/no/such/command",)])
def test_a_missing_command_is_one_line(ccf: Run, words: tuple[str, ...]) -> None:
    ran = ccf("run", "--", *words)
    assert (ran.code, ran.out) == (127, "")
    assert ran.err.count("\n") == 1
    assert f"{words[0]}: command not found" in ran.err


def test_a_missing_claude_gets_a_hint(
    ccf: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = ccf("run")
    assert ran.code == 127
    assert "install Claude Code" in ran.err


def test_a_file_that_is_not_executable_gets_another_code(ccf: Run, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.touch()
    assert ccf("run", str(text)).code == 126
    ran = ccf("run", str(tmp_path))
    assert (ran.code, "it is a folder" in ran.err) == (126, True)


def test_without_a_proxy_the_command_still_runs(ccf: Run, configure: Configure) -> None:
    configure("[server]\nport = 'x'\n")
    ran = ccf("run", *show("ANTHROPIC_BASE_URL"))
    assert (ran.code, ran.out) == (0, "None\n")
    assert ran.err.count("\n") == 1
    assert "running without the proxy" in ran.err
    assert "server.port" in ran.err


def test_a_running_server_is_used_if_the_configuration_is_broken(
    ccf: Run, configure: Configure, paths: Paths
) -> None:
    configure("[server]\nport = 'x'\n")
    with listening() as url:
        server_file.write(paths.server, url, 1, "1", 0.0)
        ran = ccf("run", *show("ANTHROPIC_BASE_URL"))
    assert (ran.out, ran.err) == (f"{url}\n", "")


def test_the_token_is_added_to_the_users_headers_and_no_login_changes(
    ccf: Run, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure('[server]\nport = 1\n[[tokens]]\ntoken = "ours-and-long"\n')
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-team: red")
    names = ("ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
    ran = ccf("run", *show(*names))
    assert ran.out == "x-team: red\nx-ccf-api-key: ours-and-long|None|None\n"


def test_loopback_is_exempt_from_an_outgoing_proxy(
    ccf: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "example.com")
    ran = ccf("run", *show("NO_PROXY", "HTTP_PROXY"))
    assert ran.out == "example.com,127.0.0.1,localhost,::1|http://proxy.example:3128\n"


def test_no_file_of_the_user_changes(ccf: Run, home: Path) -> None:
    ccf("run", "true")
    assert not list(home.iterdir())


CHILD = """
import os, signal, sys
def leave(number, _):
    print('child', number, flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGINT, leave)
print('ready', flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def started() -> Callable[[], "subprocess.Popen[str]"]:
    """Starts a child that prints the signal that ends it, in its own session."""

    def start() -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "ccfallback", "run", sys.executable, "-c", CHILD],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    return start


@pytest.mark.usefixtures("traced_processes")
def test_sigterm_is_forwarded(started: Callable[[], "subprocess.Popen[str]"]) -> None:
    process = started()
    process.terminate()
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == (f"child {int(signal.SIGTERM)}\n", "", 5)


@pytest.mark.usefixtures("traced_processes")
def test_ctrl_c_belongs_to_the_child(started: Callable[[], "subprocess.Popen[str]"]) -> None:
    process = started()
    # As a terminal does it: to every process in the foreground.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == (f"child {int(signal.SIGINT)}\n", "", 5)


@pytest.mark.parametrize("place", [".local/bin/claude", ".claude/local/claude"])
def test_claude_code_is_found_where_it_installs_itself(
    ccf: Run, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    claude = home / place
    claude.parent.mkdir(parents=True)
    claude.write_text("#!/bin/sh\necho found\n")
    claude.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ccf("run").out == "found\n"
    assert ccf("run", "--", "no-such-command").code == 127
