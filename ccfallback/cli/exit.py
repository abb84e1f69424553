"""The exit codes that scripts may rely on."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
