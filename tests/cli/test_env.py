import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pytest

from ccfallback.cli.env import (
    find_capturing_proxy,
    find_tokens,
    leads_to,
    loopback_exemptions,
    variables_for,
)
from ccfallback.paths import Paths
from ccfallback.state import server_file
from tests.cli.conftest import Run

URL = "http://127.0.0.1:8787"
PROXY = "http://proxy.example:3128"
HINTS = {"CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1"}
TOKEN = 'tok\'en \\ $HOME "x"'


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"status":"ok","version":"1"}' if self.path == "/health" else b"{}"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test output quiet."""


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
    """A configured port on which no server listens."""
    configure("[server]\nport = 1\n")


def test_without_a_server_the_configured_address_is_printed(ccf: Run) -> None:
    ran = ccf("env")
    assert (ran.code, ran.out) == (
        0,
        "export ANTHROPIC_BASE_URL=http://127.0.0.1:1\nexport CLAUDE_CODE_GATEWAY_HINT_HEADERS=1\n",
    )
    assert "ccfallback serve" in ran.err


def test_the_running_server_is_found(ccf: Run, paths: Paths) -> None:
    with listening() as url:
        server_file.write(paths.server, url, 1, "1", 0.0)
        ran = ccf("env", "--json")
    assert ran.json == {"ANTHROPIC_BASE_URL": url, **HINTS}
    assert ran.err == ""


def test_a_server_that_does_not_answer_does_not_count(ccf: Run, paths: Paths) -> None:
    server_file.write(paths.server, "http://127.0.0.1:2", 1, "1", 0.0)
    assert ccf("env", "--json").json == {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1", **HINTS}


def test_the_server_is_queried_without_an_outgoing_proxy(
    ccf: Run, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3")
    with listening() as url:
        server_file.write(paths.server, url, 1, "1", 0.0)
        assert ccf("env", "--json").json == {"ANTHROPIC_BASE_URL": url, **HINTS}


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]")]
)
def test_the_printed_address_can_be_connected_to(
    ccf: Run, configure: Callable[[str], None], host: str, shown: str
) -> None:
    configure(f'[server]\nport = 1\nhost = "{host}"\n')
    assert ccf("env", "--json").json == {"ANTHROPIC_BASE_URL": f"http://{shown}:1", **HINTS}


@pytest.mark.parametrize(
    ("shell", "first"),
    [
        ("/usr/bin/zsh", "export "),
        ("/usr/bin/fish", "set -gx "),
        ("/usr/bin/pwsh", "$Env:"),
        ("/bin/dash", "export "),
    ],
)
def test_the_users_shell_is_the_default(
    ccf: Run, monkeypatch: pytest.MonkeyPatch, shell: str, first: str
) -> None:
    monkeypatch.setenv("SHELL", shell)
    assert ccf("env").out.startswith(first)


def test_the_access_token_is_included(ccf: Run, configure: Callable[[str], None]) -> None:
    configure(f"[server]\nport = 1\n[[tokens]]\ntoken = '''{TOKEN}'''\n")
    variables = {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "ANTHROPIC_CUSTOM_HEADERS": f"x-ccf-api-key: {TOKEN}",
        **HINTS,
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


def test_the_users_own_headers_stay(
    ccf: Run, configure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure('[server]\nport = 1\n[[tokens]]\ntoken = "ours-and-long"\n')
    expected = "x-team: red\nx-ccf-api-key: ours-and-long"
    for before in ("x-team: red", expected):
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", before)
        assert ccf("env", "--json").json["ANTHROPIC_CUSTOM_HEADERS"] == expected


# -- The environment of Claude Code


def test_without_a_token_there_is_no_custom_header() -> None:
    assert variables_for({"ANTHROPIC_CUSTOM_HEADERS": "a: b"}, URL, None) == {
        "ANTHROPIC_BASE_URL": URL,
        **HINTS,
    }


@pytest.mark.parametrize(("before", "after"), [("", "1"), ("1", "1"), ("0", "0")])
def test_the_users_choice_about_hint_headers_stays(before: str, after: str) -> None:
    name = "CLAUDE_CODE_GATEWAY_HINT_HEADERS"
    assert variables_for({name: before}, URL, None)[name] == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "x-ccf-api-key: t"),
        ("x-team: red", "x-team: red\nx-ccf-api-key: t"),
        ("x-team: red\n\nx-two: 2\n", "x-team: red\nx-two: 2\nx-ccf-api-key: t"),
        ("X-CCF-Api-Key: old\nx-team: red", "x-team: red\nx-ccf-api-key: t"),
        ("x-ccf-api-key: t", "x-ccf-api-key: t"),
    ],
)
def test_the_token_is_added_to_existing_headers(before: str, after: str) -> None:
    found = variables_for({"ANTHROPIC_CUSTOM_HEADERS": before}, URL, "t")
    assert found == {"ANTHROPIC_BASE_URL": URL, "ANTHROPIC_CUSTOM_HEADERS": after, **HINTS}


def test_no_login_is_ever_set() -> None:
    assert not {"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"} & set(variables_for({}, URL, "t"))


def test_where_a_client_may_send_a_token() -> None:
    environ = {
        "ANTHROPIC_CUSTOM_HEADERS": "x-team: red\nX-Ccf-Api-Key:  one ",
        "ANTHROPIC_AUTH_TOKEN": "two",
        "ANTHROPIC_API_KEY": "three",
    }
    assert find_tokens(environ) == {
        "ANTHROPIC_AUTH_TOKEN": "two",
        "ANTHROPIC_API_KEY": "three",
        "ANTHROPIC_CUSTOM_HEADERS": "one",
    }
    assert find_tokens({"ANTHROPIC_CUSTOM_HEADERS": "x-team: red"}) == {}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTP_PROXY": ""}, None),
        ({"HTTP_PROXY": PROXY}, "HTTP_PROXY"),
        ({"https_proxy": PROXY}, "https_proxy"),
        ({"ALL_PROXY": PROXY, "NO_PROXY": "example.com"}, "ALL_PROXY"),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ({"HTTP_PROXY": PROXY, "no_proxy": "localhost, 127.0.0.1"}, None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "localhost 127.0.0.1"}, None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "127.0.0.10"}, "HTTP_PROXY"),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "127.0.0.1", "no_proxy": "x"}, "HTTP_PROXY"),
    ],
)
def test_which_variable_captures_loopback(environ: dict[str, str], expected: str | None) -> None:
    assert find_capturing_proxy(environ) == expected


@pytest.mark.parametrize(
    ("no_proxy", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "example.com"}, "example.com,127.0.0.1,localhost,::1"),
        ({"no_proxy": "example.com,localhost,"}, "example.com,localhost,127.0.0.1,::1"),
    ],
)
def test_loopback_is_added_to_the_exemptions(no_proxy: dict[str, str], expected: str) -> None:
    environ = {"HTTP_PROXY": PROXY, **no_proxy}
    found = loopback_exemptions(environ)
    assert found == {"NO_PROXY": expected, "no_proxy": expected}
    assert find_capturing_proxy({**environ, **found}) is None


@pytest.mark.parametrize(
    "environ",
    [{}, {"NO_PROXY": "example.com"}, {"HTTP_PROXY": PROXY, "NO_PROXY": "127.0.0.1,localhost"}],
)
def test_no_exemption_is_added_without_a_need(environ: dict[str, str]) -> None:
    assert loopback_exemptions(environ) == {}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, True),
        ("http://localhost:8787/v1", True),
        ("https://127.0.0.1:8787", False),
        ("http://127.0.0.1:8788", False),
        ("", False),
        ("http://[::1", False),
        ("http://127.0.0.1:port", False),
    ],
)
def test_whether_a_url_leads_to_the_server(url: str, expected: bool) -> None:
    assert leads_to(url, URL) is expected
