import sys
import time

import pytest

from ccfallback.config.model import KeySource
from ccfallback.config.secrets import KeyUnavailable, resolve
from ccfallback.redact import Secret


def program(code: str) -> KeySource:
    return KeySource(command=(sys.executable, "-c", code))


def test_without_a_source_there_is_no_key() -> None:
    assert resolve(KeySource()) is None


def test_a_literal_is_the_key() -> None:
    assert resolve(KeySource(literal=Secret("sk-1"))) == Secret("sk-1")


def test_a_variable_is_read() -> None:
    assert resolve(KeySource(env="K"), environ={"K": " sk-1\n"}) == Secret("sk-1")


@pytest.mark.parametrize(
    "environ", [{}, {"K": ""}, {"K": "  "}, {"K": "a\nb"}, {"K": "schlüssel€"}]
)
def test_a_variable_without_a_key_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(KeyUnavailable, match="variable K") as caught:
        resolve(KeySource(env="K"), environ=environ)
    assert "schl" not in str(caught.value)


def test_the_first_line_of_a_program_is_the_key() -> None:
    source = program("print(' sk-1 '); print('user: me')")
    assert resolve(source) == Secret("sk-1")


def test_a_program_sees_the_environment_and_no_input() -> None:
    source = program("import os, sys; print(os.environ['K'] + sys.stdin.read())")
    assert resolve(source, environ={"K": "sk-1"}) == Secret("sk-1")


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
    ],
)
def test_a_program_without_a_key_is_named_and_its_output_is_not_shown(code: str, said: str) -> None:
    with pytest.raises(KeyUnavailable, match=said) as caught:
        resolve(program(code))
    assert sys.executable in str(caught.value)
    assert "sk-" not in str(caught.value)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyUnavailable, match="no-such-program"):
        resolve(KeySource(command=("no-such-program", "sk-1")))


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
def test_a_program_that_hangs_is_ended_with_all_it_started() -> None:
    began = time.monotonic()
    source = KeySource(command=("sh", "-c", "sleep 60 & sleep 60"))
    with pytest.raises(KeyUnavailable, match=r"within 0\.2 s"):
        resolve(source, timeout=0.2)
    assert time.monotonic() - began < 30


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_a_pipe_that_stays_open_is_not_waited_for() -> None:
    began = time.monotonic()
    source = KeySource(command=("sh", "-c", "sleep 20 & echo sk-1"))
    with pytest.raises(KeyUnavailable, match=r"within 0\.3 s"):
        resolve(source, timeout=0.3)
    assert time.monotonic() - began < 15


def test_quotes_of_an_env_file_are_not_the_key() -> None:
    found = resolve(KeySource(env="KEY"), {"KEY": '"sk-1"'})
    assert found is not None
    assert found.reveal() == "sk-1"


def test_a_program_may_print_a_line_of_an_env_file() -> None:
    command = (sys.executable, "-c", "print('export API_KEY=\"sk-1\"')")
    found = resolve(KeySource(command=command))
    assert found is not None
    assert found.reveal() == "sk-1"
