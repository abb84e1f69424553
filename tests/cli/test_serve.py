"""`serve`: what it prints, and what prevents a start."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from ccfallback.cli import serving
from ccfallback.cli.file_options import split_files
from ccfallback.paths import Paths
from tests.cli.conftest import Run
from tests.conftest import RunningProxy

Configure = Callable[[str], None]


def test_a_taken_port_is_one_line_with_a_hint(ccf: Run) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ran = ccf("serve", "--port", str(other.getsockname()[1]))
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "--port" in ran.err
    assert "not a ccfallback" in ran.err


def test_a_port_of_another_ccfallback_names_it(
    ccf: Run, running: Callable[[str], RunningProxy]
) -> None:
    proxy = running("")
    ran = ccf("serve", "--port", proxy.url.rpartition(":")[2])
    assert ran.code == 1
    assert f"by another ccfallback (pid {os.getpid()}, {proxy.url})" in ran.err


def test_without_a_token_other_machines_are_not_served(ccf: Run) -> None:
    ran = ccf("serve", "--host", "0.0.0.0", "--port", "0")
    assert ran.code == 1
    assert "token" in ran.err


def test_a_broken_config_stops_the_start(ccf: Run, configure: Configure) -> None:
    configure("[server]\nport = 'x'\n")
    ran = ccf("serve")
    assert ran.code == 1
    assert "server.port" in ran.err


def test_the_address_is_the_first_thing_on_stdout(paths: Paths, configure: Configure) -> None:
    configure("[server]\nport = 0\n")
    paths.config.chmod(0o644)  # This causes a warning at once.
    with subprocess.Popen(
        [sys.executable, "-m", "ccfallback", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A buffer may read more than the line, which `communicate` would then miss.
        bufsize=0,
    ) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline().decode()
            assert httpx.get(first.strip().partition("=")[2]).status_code == 200
            process.terminate()
            rest, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert first.startswith("export ANTHROPIC_BASE_URL=http://127.0.0.1:")
    assert os.name == "nt" or b"can be opened by" in rest


def test_a_server_on_all_interfaces_says_so(paths: Paths, configure: Configure) -> None:
    configure('[server]\nhost = "0.0.0.0"\n[[tokens]]\ntoken = "an-access-token-of-length"\n')
    with subprocess.Popen(
        [sys.executable, "-m", "ccfallback", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().strip().partition("=")[2]
            process.terminate()
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    port = url.rpartition(":")[2]
    assert f"listens on 0.0.0.0:{port} (all interfaces); here: {url};" in said.decode()


NOT_NEEDED = {
    "typer",
    "rich",
    "pydantic",
    "httpx",
    "tomlkit",
    "unicodedata",
}
"""What would stay in memory for as long as the server runs, and serves few."""


def test_a_server_has_loaded_nothing_that_it_does_not_need(paths: Paths) -> None:
    code = f"""
import sys
from ccfallback.cli.file_options import split_files
from ccfallback.cli import main, serving
from ccfallback.server import serve
def stop(session, proxy, url):
    print(sorted({NOT_NEEDED!r} & set(sys.modules)))
    proxy.stop()
serving._announce = stop
main(["--config", {str(paths.config)!r}, "--state", {str(paths.state)!r}, "--log-file",
      {str(paths.log)!r}, "serve", "--port", "0"])
"""
    paths.config.parent.mkdir(parents=True)
    paths.config.write_text('[primary]\nbase_url = "http://127.0.0.1:9"\n')
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout[:3]) == (0, "[]\n"), (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("serve", {}),
        ("--config c.toml serve --port 0", {"config": "c.toml", "port": 0}),
        (
            "--state s --log-file l serve --host ::1 --log-level debug --port 65535",
            {"state": "s", "log_file": "l", "host": "::1", "log_level": "debug", "port": 65535},
        ),
    ],
)
def test_the_usual_form_is_understood_as_typer_understands_it(
    line: str, expected: dict[str, Any]
) -> None:
    files, words = split_files(line.split())
    parsed = serving.parse(words)
    assert parsed is not None
    config, state, log_file = (path and str(path) for path in files)
    found = {
        "config": config, "state": state, "log_file": log_file, "host": parsed.host,
        "port": parsed.port, "log_level": parsed.log_level,
    }  # fmt: skip
    assert {name: value for name, value in found.items() if value is not None} == expected


@pytest.mark.parametrize(
    "line",
    [
        "",
        "status",
        "--config serve",
        "--config c",
        "--config c --config d serve",
        "--config -c serve",
        "--config c --state serve",
        "--config c --version serve",
        "--config=c serve",
        "serve --port",
        "serve --port x",
        "serve --port 65536",
        "serve --port -1",
        "serve --port ٣",
        "serve --log-level loud",
        "serve --port=0",
        "serve --port 1 --port 2",
        "serve serve",
        "serve --help",
        "serve --config c",
        "serve --background",
        "--host a serve",
        "serve --host --port",
        "serve extra",
    ],
)
def test_everything_else_is_left_to_typer(line: str) -> None:
    assert serving.parse(split_files(line.split())[1]) is None
