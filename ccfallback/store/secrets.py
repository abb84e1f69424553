"""Find a provider's key where the configuration says it is.

One rule: what a program printed is a key or nothing; it appears in no message.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from ccfallback.core.checks import is_header_value
from ccfallback.core.config import KeySource
from ccfallback.core.redact import Secret

_NEW_SESSION: Final = sys.platform != "win32"


class KeyUnavailable(Exception):
    """The key is not where the configuration says; the message is safe to show."""


def resolve(
    source: KeySource, environ: Mapping[str, str] = os.environ, timeout: float = 10.0
) -> Secret | None:
    """The key, or None where the configuration names none."""
    if source.literal is not None:
        return source.literal
    if source.env is not None:
        return _of_variable(source.env, environ)
    if source.command is not None:
        return _of_program(source.command, environ, timeout)
    return None


def _of_variable(name: str, environ: Mapping[str, str]) -> Secret:
    value = environ.get(name, "").strip()
    if not value:
        state = "empty" if name in environ else "not set"
        raise KeyUnavailable(f"the environment variable {name} is {state}")
    if not is_header_value(value):
        raise KeyUnavailable(f"what the environment variable {name} holds can't be a key")
    return Secret(value)


def _of_program(command: tuple[str, ...], environ: Mapping[str, str], timeout: float) -> Secret:
    # Only the program is named: its arguments may hold a secret of their own.
    program = command[0]
    first, _, _ = _output(command, environ, timeout).partition(b"\n")
    try:
        value = first.decode().strip()
    except UnicodeDecodeError:
        raise KeyUnavailable(f"what {program} printed is not text") from None
    if not value:
        raise KeyUnavailable(f"{program} printed no key on its first line")
    if not is_header_value(value):
        raise KeyUnavailable(f"what {program} printed can't be a key")
    return Secret(value)


def _output(command: tuple[str, ...], environ: Mapping[str, str], timeout: float) -> bytes:
    program = command[0]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=_NEW_SESSION,
        )
    except FileNotFoundError:
        raise KeyUnavailable(f"the program {program} is not there") from None
    except (OSError, ValueError):
        raise KeyUnavailable(f"the program {program} can't be run") from None
    with child:
        try:
            output, _ = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise KeyUnavailable(f"{program} gave no key within {timeout:g} s") from None
        finally:
            _end(child)
    if child.returncode:
        raise KeyUnavailable(f"{program} failed with exit status {child.returncode}")
    return output


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a program that is still running, and whatever it started in turn."""
    if child.poll() is not None:
        return
    if sys.platform == "win32":
        child.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
