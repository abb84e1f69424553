"""A key that the configuration names, and the JSON that a program may print."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback.config.model import Aws, KeySource, Provider
from ccfallback.credentials import KeyUnavailable, Machine, Resolved, resolve
from ccfallback.credentials.command import run_command
from ccfallback.credentials.source import read_time
from ccfallback.redact import Secret
from ccfallback.wire.credential import AwsKeys, Credential
from tests.credentials.machine import NOW, no_network


def find(
    key: KeySource, environ: Mapping[str, str] | None = None, **more: object
) -> Resolved | None:
    provider = Provider(name="a", base_url="https://a.test", key=key, aws=Aws(sign="sigv4"))
    environ = {"PATH": "/usr/bin:/bin"} if environ is None else environ
    return resolve(provider, environ, fetch=no_network, now=lambda: NOW)


def key_of(key: KeySource, environ: Mapping[str, str] | None = None) -> str:
    found = find(key, environ)
    assert found is not None
    return found.credential.key


def program(code: str) -> KeySource:
    return KeySource(command=(sys.executable, "-c", code))


def prints(value: object) -> KeySource:
    return program(f"print({msgspec.json.encode(value).decode()!r})")


def test_without_a_source_there_is_no_key() -> None:
    assert find(KeySource()) is None


def test_a_literal_is_the_key() -> None:
    assert key_of(KeySource(literal=Secret("sk-1"))) == "sk-1"


def test_a_variable_is_read() -> None:
    assert key_of(KeySource(env="K"), {"K": " sk-1\n"}) == "sk-1"
    assert key_of(KeySource(env="K"), {"K": '"sk-1"'}) == "sk-1"


@pytest.mark.parametrize(
    "environ", [{}, {"K": ""}, {"K": "  "}, {"K": "a\nb"}, {"K": "schlüssel€"}]
)
def test_a_variable_without_a_key_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(KeyUnavailable, match="variable K") as caught:
        find(KeySource(env="K"), environ)
    assert "schl" not in str(caught.value)


def test_the_first_line_of_a_program_is_the_key() -> None:
    assert key_of(program("print(' sk-1 '); print('user: me')")) == "sk-1"
    assert key_of(program("print('export API_KEY=\"sk-1\"')")) == "sk-1"


def test_a_program_sees_the_environment_and_no_input() -> None:
    source = program("import os, sys; print(os.environ['K'] + sys.stdin.read())")
    assert key_of(source, {"K": "sk-1"}) == "sk-1"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; print('sk-1'); sys.stderr.write('sk-2'); sys.exit(3)", "exit status 3"),
        ("print('')", "no key"),
        ("pass", "no key"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\n')", "not text"),
        ("print('a\\x00sk-1')", "can't be a key"),
        ("print('sk-1' * 100_000)", "more than a key"),
        ("while True: print('sk-1')", "more than a key"),
        ("print('{sk-1')", "something else than a JSON object"),
        ("print('{' * 50_000)", "something else than a JSON object"),
        ('print(\'{"user": "sk-1"}\')', "neither a token nor AWS keys"),
        ('print(\'{"token": ["sk-1"]}\')', "token in the JSON"),
        ('print(\'{"token": "sk-1\\\\nx: y"}\')', "token in the JSON"),
        ('print(\'{"AccessKeyId": "sk-1"}\')', "SecretAccessKey in the JSON"),
        ('print(\'{"token": "sk-1", "expiry": "2020-01-01T00:00:00Z"}\')', "has expired"),
        (
            "import sys; sys.stderr.write('sk-2: run aws sso login'); sys.exit(1)",
            "run `aws sso login`",
        ),
    ],
)
def test_a_program_without_a_key_is_named_and_its_output_is_not_shown(code: str, said: str) -> None:
    with pytest.raises(KeyUnavailable, match=said) as caught:
        find(program(code))
    assert sys.executable in str(caught.value)
    assert "sk-" not in str(caught.value)
    assert "sk-" not in repr(caught.value)


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(KeyUnavailable, match="no-such-program"):
        find(KeySource(command=("no-such-program", "sk-1")))


def run_shell(script: str, timeout: float) -> None:
    machine = Machine({"PATH": "/usr/bin:/bin"}, no_network, lambda: NOW)
    run_command(("sh", "-c", script), machine, timeout)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_a_program_that_hangs_is_ended_with_all_it_started() -> None:
    began = time.monotonic()
    with pytest.raises(KeyUnavailable, match=r"within 0\.2 s"):
        run_shell("sleep 60 & sleep 60", 0.2)
    assert time.monotonic() - began < 30


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("script", ["sleep 20 & echo sk-1", "sleep 20 >&2 & sleep 20"])
def test_a_pipe_that_stays_open_is_not_waited_for(script: str) -> None:
    began = time.monotonic()
    with pytest.raises(KeyUnavailable, match=r"within 0\.3 s"):
        run_shell(script, 0.3)
    assert time.monotonic() - began < 15


@pytest.mark.skipif(sys.platform == "win32", reason="sessions are POSIX")
def test_only_its_reader_closes_a_pipe_that_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = []

    class Program(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **how: Any) -> None:
            super().__init__(*args, **how)
            programs.append(self)

    monkeypatch.setattr(subprocess, "Popen", Program)
    end = tmp_path / "end"
    os.mkfifo(end)
    leave = f"import os; os.setsid(); open({str(end)!r}).read()"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {leave!r}])"
    machine = Machine({"PATH": "/usr/bin:/bin"}, no_network, lambda: NOW)
    with pytest.raises(KeyUnavailable, match=r"within 0\.3 s"):
        run_command((sys.executable, "-c", code), machine, 0.3)
    (left,) = programs
    readers = [each for each in threading.enumerate() if each.name == "key"]
    assert readers
    assert left.stdout is not None
    assert not left.stdout.closed
    end.write_bytes(b"")
    for reader in readers:
        reader.join(10)
    assert left.stdout.closed


def test_much_output_of_errors_does_not_stop_a_program() -> None:
    code = "import sys; sys.stderr.write('x' * 1_000_000); print('sk-1')"
    assert key_of(program(code)) == "sk-1"


@pytest.mark.parametrize("name", ["token", "access_token", "accessToken"])
def test_a_program_may_print_a_token_as_json(name: str) -> None:
    found = find(prints({name: "tok-1", "expires_in": 600}))
    assert found is not None
    assert (found.credential, found.expires_at) == (Credential("tok-1"), NOW + 600)


@pytest.mark.parametrize("nested", [False, True])
def test_a_program_may_print_aws_keys(nested: bool) -> None:
    table = {
        "Version": 1,
        "AccessKeyId": "AKIDEXAMPLE",
        "SecretAccessKey": "secret-canary",
        "SessionToken": "session-canary",
        "Expiration": "2030-01-01T00:00:00+00:00",
    }
    found = find(prints({"Credentials": table} if nested else table))
    assert found is not None
    assert found.credential.aws == AwsKeys("AKIDEXAMPLE", "secret-canary", "session-canary")
    assert found.expires_at == 1893456000
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3600, NOW + 3600),
        ("3599", NOW + 3599),
        (0, NOW),
        (NOW + 60.5, NOW + 60.5),
        (str(int(NOW) + 60), NOW + 60),
        ((NOW + 60) * 1000, NOW + 60),
        ("2026-11-28T12:34:56Z", 1795869296),
        ("2026-11-28T12:34:56.123456789Z", 1795869296.123456),
        ("2026-11-28 12:34:56+01:00", 1795865696),
        ("2026-11-28T12:34:56", 1795869296),
        (None, None),
        (True, None),
        ("soon", None),
        ("nan", None),
        (-5, None),
        (1e300, None),
        ([1], None),
    ],
)
def test_the_end_of_a_credential_has_many_forms(value: object, seconds: float | None) -> None:
    assert read_time(value, NOW) == seconds


def test_az_gives_one_end_in_local_time_and_one_in_seconds() -> None:
    local = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.localtime(NOW + 60))
    assert read_time(local, NOW, is_local=True) == NOW + 60
    found = find(prints({"accessToken": "t", "expiresOn": local, "expires_on": NOW + 90}))
    assert found is not None
    assert found.expires_at == NOW + 90
