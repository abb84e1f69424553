"""Find a provider's key where the configuration says it is.

One rule: what a program printed is a key or nothing; it appears in no message.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from ccfallback.config.checks import is_header_value
from ccfallback.config.model import KeySource
from ccfallback.redact import Secret

_NEW_SESSION: Final = sys.platform != "win32"

MOST_OUTPUT: Final = 64 * 1024
"""Bytes that a program may print before it is ended: a key is a line."""


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
            # Unbuffered: it can be closed while a thread waits for what never comes.
            bufsize=0,
            start_new_session=_NEW_SESSION,
        )
    except FileNotFoundError:
        raise KeyUnavailable(f"the program {program} is not there") from None
    except (OSError, ValueError):
        raise KeyUnavailable(f"the program {program} can't be run") from None
    # A thread, because Windows can't wait for a pipe; and no more is read than a key can be.
    output = bytearray()
    reader = threading.Thread(target=_read, args=(child, output), name="key", daemon=True)
    until = time.monotonic() + timeout
    late = False
    with child:
        reader.start()
        reader.join(timeout)
        late = reader.is_alive()
        try:
            if not late and len(output) <= MOST_OUTPUT:
                child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _end(child)
    if late:
        raise KeyUnavailable(f"{program} gave no key within {timeout:g} s")
    if len(output) > MOST_OUTPUT:
        raise KeyUnavailable(f"{program} printed more than a key")
    if child.returncode:
        raise KeyUnavailable(f"{program} failed with exit status {child.returncode}")
    return bytes(output)


def _read(child: subprocess.Popen[bytes], output: bytearray) -> None:
    """Take what is printed, up to its end or to more than a key can be."""
    assert child.stdout is not None
    with suppress(OSError, ValueError):
        while len(output) <= MOST_OUTPUT and (part := child.stdout.read(4096)):
            output += part


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a program that is still running, and whatever it started in turn."""
    if child.poll() is not None:
        return
    if sys.platform == "win32":
        child.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
