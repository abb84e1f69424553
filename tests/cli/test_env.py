import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest

from ccfallback.paths import Paths
from ccfallback.state import server_file
from tests.cli.conftest import Run

TOKEN = 'tok\'en \\ $HOME "x"'


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"status":"ok","version":"1"}' if self.path == "/health" else b"{}"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody wants to hear of it."""


@contextmanager
def listening() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def refused(configure: Callable[[str], None]) -> None:
    """A configured port on which nobody listens."""
    configure("[server]\nport = 1\n")


def test_the_configured_address_where_nobody_answers(ccf: Run) -> None:
    ran = ccf("env")
    assert (ran.code, ran.out) == (0, "export ANTHROPIC_BASE_URL=http://127.0.0.1:1\n")
    assert "ccfallback serve" in ran.err


def test_the_running_server_is_found(ccf: Run, paths: Paths) -> None:
    with listening() as url:
        server_file.write(paths.server, url, 1, "1", 0.0)
        ran = ccf("env", "--json")
    assert ran.json == {"ANTHROPIC_BASE_URL": url}
    assert ran.err == ""


def test_a_server_that_is_gone_is_not_believed(ccf: Run, paths: Paths) -> None:
    server_file.write(paths.server, "http://127.0.0.1:2", 1, "1", 0.0)
    assert ccf("env", "--json").json == {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}


def test_no_proxy_comes_between(ccf: Run, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3")
    with listening() as url:
        server_file.write(paths.server, url, 1, "1", 0.0)
        assert ccf("env", "--json").json == {"ANTHROPIC_BASE_URL": url}


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]")]
)
def test_the_address_is_one_to_connect_to(
    ccf: Run, configure: Callable[[str], None], host: str, shown: str
) -> None:
    configure(f'[server]\nport = 1\nhost = "{host}"\n')
    assert ccf("env", "--json").json == {"ANTHROPIC_BASE_URL": f"http://{shown}:1"}


@pytest.mark.parametrize(
    ("shell", "first"),
    [
        ("/usr/bin/zsh", "export "),
        ("/usr/bin/fish", "set -gx "),
        ("/usr/bin/pwsh", "$Env:"),
        ("/bin/dash", "export "),
    ],
)
def test_the_shell_in_use_is_the_default(
    ccf: Run, monkeypatch: pytest.MonkeyPatch, shell: str, first: str
) -> None:
    monkeypatch.setenv("SHELL", shell)
    assert ccf("env").out.startswith(first)


def test_a_token_that_clients_must_show_comes_along(
    ccf: Run, configure: Callable[[str], None]
) -> None:
    configure(f"[server]\nport = 1\n[[tokens]]\ntoken = '''{TOKEN}'''\n")
    variables = {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "ANTHROPIC_CUSTOM_HEADERS": f"x-ccf-api-key: {TOKEN}",
    }
    ran = ccf("env", "--shell", "json")
    assert ran.json == variables
    assert TOKEN not in ran.err
    for shell in ("bash", "zsh", "fish", "pwsh"):
        if shutil.which(shell):
            name = shell.replace("pwsh", "powershell")
            script = ccf("env", "--shell", name).out + "env"
            found = subprocess.run([shell, "-c", script], capture_output=True, check=True)
            lines = found.stdout.decode().splitlines()
            for variable, value in variables.items():
                assert f"{variable}={value}" in lines


def test_powershell_quotes(ccf: Run, configure: Callable[[str], None]) -> None:
    configure('[server]\nport = 1\n[[tokens]]\ntoken = "it\'s"\n')
    expected = "$Env:ANTHROPIC_CUSTOM_HEADERS = 'x-ccf-api-key: it''s'\n"
    assert ccf("env", "--shell", "powershell").out.endswith(expected)


def test_an_unknown_shell_is_wrong_usage(ccf: Run) -> None:
    assert ccf("env", "--shell", "tcsh").code == 2


def test_json_is_one_object(ccf: Run) -> None:
    assert isinstance(msgspec.json.decode(ccf("env", "--json").out), dict)


def test_headers_that_the_user_has_given_stay(
    ccf: Run, configure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure('[server]\nport = 1\n[[tokens]]\ntoken = "ours-and-long"\n')
    expected = "x-team: red\nx-ccf-api-key: ours-and-long"
    for before in ("x-team: red", expected):
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", before)
        assert ccf("env", "--json").json["ANTHROPIC_CUSTOM_HEADERS"] == expected
