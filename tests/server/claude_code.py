"""The real Claude Code, in an empty environment, as the judge of what the proxy answers.

Its tests run only where `CCFALLBACK_TEST_CLAUDE` names the binary, because its license does not
let this project install it: `npm install @anthropic-ai/claude-code` in another folder, then in a
network namespace with nothing but loopback, with the path of `node_modules/.bin/claude` in the
variable: `pytest tests/server/test_claude_code*.py`.

Some tests count requests as versions from 2.1 on make them. Older ones also finish every task, but
send four warm-up requests, with tools, at their start.
"""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script

CLAUDE: Final = os.environ.get("CCFALLBACK_TEST_CLAUDE", "")
USERS_KEY: Final = "dummy-key-of-the-user"
ESC: Final = b"\x1b"

needs_claude = pytest.mark.skipif(
    not Path(CLAUDE).is_file(), reason="CCFALLBACK_TEST_CLAUDE does not name a claude binary"
)


def writes_a_file(path: Path) -> Callable[[Received], Script]:
    """A model that writes a file with its tool, then reports it."""

    def route(request: Received) -> Script:
        if "/v1/messages" not in request.target:
            return scripted.error(404, "not_found_error")
        last = request.json["messages"][-1]["content"]
        messages = msgspec.json.encode(request.json["messages"]).decode()
        if "tool_result" in messages:
            return scripted.reply("The file is written.")
        if not request.json.get("tools"):
            return scripted.reply("A title")
        assert last is not None
        arguments = {"file_path": str(path), "content": "written by the tool\n"}
        call = {"type": "tool_use", "id": "toolu_1", "name": "Write", "input": arguments}
        text = {"type": "text", "text": "I will write the file."}
        return scripted.reply([text, call], stop_reason="tool_use")

    return route


def key(value: str = USERS_KEY) -> dict[str, str]:
    """The variable of a user with an API key."""
    return {"ANTHROPIC_API_KEY": value}


def login(token: str) -> dict[str, str]:
    """The variable of a user with a plan's login."""
    return {"CLAUDE_CODE_OAUTH_TOKEN": token}


def environment(url: str, folder: Path, credentials: Mapping[str, str]) -> dict[str, str]:
    """All that Claude Code knows: an empty home, the proxy, and what the user has."""
    home = folder / "claude-home"
    home.mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "IS_SANDBOX": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ANTHROPIC_BASE_URL": url,
        **credentials,
    }


def run_claude(
    url: str,
    folder: Path,
    tools: str = "Bash,Write",
    *,
    task: str = "",
    credentials: Mapping[str, str] | None = None,
) -> Any:
    """Claude Code's own account of a headless run; the usual task is to write a file."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    task = task or f"Create the file {work / 'hello.txt'} with your Write tool."
    done = subprocess.run(
        [CLAUDE, "-p", task, "--output-format", "json", "--allowedTools", tools],
        cwd=work,
        env=environment(url, folder, key() if credentials is None else credentials),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return msgspec.json.decode(done.stdout)


class Terminal:
    """Claude Code on a terminal, at work on a task."""

    def __init__(self, url: str, folder: Path, task: str, credentials: Mapping[str, str]) -> None:
        work = folder / "work"
        work.mkdir(exist_ok=True)
        variables = environment(url, folder, credentials)
        # As after the questions of the first start.
        known = {
            "hasCompletedOnboarding": True,
            "theme": "dark",
            "projects": {str(work): {"hasTrustDialogAccepted": True}},
        }
        (Path(variables["HOME"]) / ".claude.json").write_bytes(msgspec.json.encode(known))
        self._output = b""
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._process = subprocess.Popen(
            [CLAUDE, task],
            cwd=work,
            env={**variables, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        os.close(self._ours)

    def press(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._ours, key)

    def seen(self) -> str:
        """The output so far, without most of its control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", " ", self._output.decode(errors="replace"))

    def _read(self) -> None:
        # Reading fails as soon as no process has the terminal.
        with contextlib.suppress(OSError):
            while some := os.read(self._ours, 65536):
                self._output += some
