"""Run a program that prints a credential, bounded in time and output.

No message contains what a program printed.
"""

import re
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Final

import msgspec

from ccfallback.processes import NEW_SESSION, kill_session
from ccfallback.structs import Discreet

KEY_SECONDS: Final = 10.0
"""How long a program of the configuration may take."""

MOST_OUTPUT: Final = 64 * 1024
"""Bytes after which a program is killed: a key is one line."""

_LAST_WORDS: Final = 0.2
"""Seconds to wait for the end of the error output of a program that has ended."""

_LOGINS: Final = (
    (re.compile(rb"sso login|sso session|sso token|token has expired and refresh", re.IGNORECASE),
     "aws sso login"),
    (re.compile(rb"\baws login\b", re.IGNORECASE), "aws login"),
    (re.compile(rb"gcloud auth|reauth|invalid_grant|invalid_rapt", re.IGNORECASE),
     "gcloud auth application-default login"),
    (re.compile(rb"\baz login\b|AADSTS\d", re.IGNORECASE), "az login"),
)  # fmt: skip
"""What the programs of the clouds say if a person has to log in again, and the command for it."""


class KeyUnavailable(Exception):
    """There is no credential. The message contains no secret."""

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message)
        self.command = command
        """What a person has to run so that there is one; empty if that is not known."""

    def copy(self) -> "KeyUnavailable":
        """The same error for another request: a raised one holds the frames of the first."""
        return KeyUnavailable(str(self), self.command)


def expired_login(what: str, command: str) -> KeyUnavailable:
    """The error for a login that only a person can renew."""
    return KeyUnavailable(f"{what} has expired or is missing: run `{command}`", command)


class Output(Discreet, msgspec.Struct, frozen=True):
    """What a program printed. The `repr` shows none of it."""

    SHOWN = ("status",)

    stdout: bytes
    stderr: bytes
    status: int

    @property
    def login(self) -> str:
        """The command that a person has to run, if the program names one; else empty."""
        found = (command for words, command in _LOGINS if words.search(self.stderr))
        return next(found, "")


def failed_login(program: str, output: Output, what: str, command: str) -> KeyUnavailable:
    """The error for a login of which a cloud's program has given no token."""
    if output.login:
        return expired_login(what, command)
    message = f"{program} failed with exit status {output.status}; `{command}` may help"
    return KeyUnavailable(message, command)


def explain_failure(program: str, output: Output) -> tuple[str, str]:
    """Why a program gave no credential, and the command that helps, if it is known."""
    message = f"{program} failed with exit status {output.status}"
    if output.login:
        message += f": a login has expired or is missing; run `{output.login}`"
    return message, output.login


def run(
    command: tuple[str, ...], environ: Mapping[str, str], timeout: float, name: str = ""
) -> Output:
    """What a program prints, and its exit status.

    Messages have its `name`. Raises `KeyUnavailable` if it does not run, end, or stop printing.
    """
    program = name or command[0]
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            # Unbuffered, so that a read returns what there is.
            bufsize=0,
            start_new_session=NEW_SESSION,
        )
    except FileNotFoundError:
        raise KeyUnavailable(f"the program {program} does not exist") from None
    except (OSError, ValueError):
        raise KeyUnavailable(f"the program {program} can't be run") from None
    # Threads, because Windows cannot wait for a pipe. The first one stops reading at the limit.
    output, errors = bytearray(), bytearray()
    assert child.stdout is not None
    assert child.stderr is not None
    reader = _start_reader(child.stdout, output, keep_reading=False)
    error_reader = _start_reader(child.stderr, errors, keep_reading=True)
    until = time.monotonic() + timeout
    reader.join(timeout)
    late = reader.is_alive()
    try:
        if not late and len(output) <= MOST_OUTPUT:
            child.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        late = True
    finally:
        # Something that it has started may keep the output open after its own end. Its number can't
        # be another program's yet, because nothing has waited for it.
        if late or child.poll() is None:
            kill_session(child)
        child.wait()
    error_reader.join(_LAST_WORDS)
    if late:
        raise KeyUnavailable(f"{program} printed no key within {timeout:g} s")
    if len(output) > MOST_OUTPUT:
        raise KeyUnavailable(f"{program} printed more than a key")
    return Output(bytes(output), bytes(errors), child.returncode)


def _start_reader(pipe: IO[bytes], output: bytearray, *, keep_reading: bool) -> threading.Thread:
    """Collect the output up to its end or just over the limit, in a thread.

    With `keep_reading` the rest is read too, so that the program does not wait; it is not kept.
    The thread itself closes the pipe: if another one did, the next file or socket could get the
    same number, and this thread would read from that.
    """

    def read() -> None:
        with pipe, suppress(OSError, ValueError):
            while part := pipe.read(4096):
                if len(output) <= MOST_OUTPUT:
                    output.extend(part)
                elif not keep_reading:
                    break

    thread = threading.Thread(target=read, name="key", daemon=True)
    thread.start()
    return thread
