"""Read a provider's key from the source that the configuration names.

No message contains what a program printed.
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

from ccfallback.config.checks import clean_key, is_header_value
from ccfallback.config.model import KeySource
from ccfallback.redact import Secret

_NEW_SESSION: Final = sys.platform != "win32"

MOST_OUTPUT: Final = 64 * 1024
"""Bytes after which a program is killed: a key is one line."""


class KeyUnavailable(Exception):
    """The source has no key. The message contains no secret."""


def resolve(
    source: KeySource, environ: Mapping[str, str] = os.environ, timeout: float = 10.0
) -> Secret | None:
    """The key, the first of several; `None` if the configuration names no source.

    Raises `KeyUnavailable`.
    """
    if source.literal is not None:
        return source.literal
    if isinstance(source.env, str):
        return _from_variable(source.env, environ)
    if source.command is not None:
        return _from_program(source.command, environ, timeout)
    return resolve(source.each[0], environ, timeout) if source else None


def _from_variable(name: str, environ: Mapping[str, str]) -> Secret:
    value = clean_key(environ.get(name, ""))
    if not value:
        state = "empty" if name in environ else "not set"
        raise KeyUnavailable(f"the environment variable {name} is {state}")
    if not is_header_value(value):
        raise KeyUnavailable(f"the value of the environment variable {name} can't be a key")
    return Secret(value)


def _from_program(command: tuple[str, ...], environ: Mapping[str, str], timeout: float) -> Secret:
    # Messages name the program without its arguments, which may contain a secret.
    program = command[0]
    first, _, _ = _run(command, environ, timeout).partition(b"\n")
    try:
        value = clean_key(first.decode())
    except UnicodeDecodeError:
        raise KeyUnavailable(f"the output of {program} is not text") from None
    if not value:
        raise KeyUnavailable(f"{program} printed no key on its first line")
    if not is_header_value(value):
        raise KeyUnavailable(f"the output of {program} can't be a key")
    return Secret(value)


def _run(command: tuple[str, ...], environ: Mapping[str, str], timeout: float) -> bytes:
    program = command[0]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            # Unbuffered, so that it can be closed while a thread waits for output.
            bufsize=0,
            start_new_session=_NEW_SESSION,
        )
    except FileNotFoundError:
        raise KeyUnavailable(f"the program {program} does not exist") from None
    except (OSError, ValueError):
        raise KeyUnavailable(f"the program {program} can't be run") from None
    # A thread, because Windows cannot wait for a pipe. It stops reading at the limit.
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
            _kill(child)
    if late:
        raise KeyUnavailable(f"{program} printed no key within {timeout:g} s")
    if len(output) > MOST_OUTPUT:
        raise KeyUnavailable(f"{program} printed more than a key")
    if child.returncode:
        raise KeyUnavailable(f"{program} failed with exit status {child.returncode}")
    return bytes(output)


def _read(child: subprocess.Popen[bytes], output: bytearray) -> None:
    """Collect the output up to its end or just over the limit."""
    assert child.stdout is not None
    with suppress(OSError, ValueError):
        while len(output) <= MOST_OUTPUT and (part := child.stdout.read(4096)):
            output += part


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a program that is still running, and its children."""
    if child.poll() is not None:
        return
    if sys.platform == "win32":
        child.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
