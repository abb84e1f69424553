"""What a service manager has to be told to run the server: a systemd unit, a launchd agent.

Only text is made here. A program that fetches a key may be any program, setgid ones included, so
nothing here takes privileges or folders away: what is hardened are the files and the memory.
"""

import plistlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

STOP_SECONDS: Final = 40
"""How long a stop may take: streams have 30 s to finish."""

RESTART_SECONDS: Final = 5

PRIVATE_UMASK: Final = 0o077

LABEL: Final = "ccfallback.serve"
"""What launchd calls the agent."""

_PLAIN: Final = re.compile(r"[\w@/.,:=+-]+", re.ASCII)
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


@dataclass(frozen=True, slots=True)
class Service:
    """What is to be run, and what its environment holds beside what the manager gives."""

    argv: Sequence[str]
    environ: Mapping[str, str]


def systemd_unit(service: Service) -> str:
    """The text of a user unit."""
    # The colon: a dollar in a path is a dollar.
    command = " ".join(quoted(word) for word in service.argv)
    variables = "".join(
        f"Environment={quoted(f'{name}={value}')}\n" for name, value in service.environ.items()
    )
    return (
        "# Written by `ccfallback service install`; `ccfallback service uninstall` removes it.\n"
        "[Unit]\n"
        "Description=ccfallback, a failover proxy for Claude Code\n"
        "\n"
        "[Service]\n"
        "Type=exec\n"
        f"ExecStart=:{command}\n"
        f"{variables}"
        "Restart=on-failure\n"
        f"RestartSec={RESTART_SECONDS}\n"
        "# A command line that it does not understand gets no better.\n"
        "RestartPreventExitStatus=2\n"
        f"TimeoutStopSec={STOP_SECONDS}\n"
        f"UMask={PRIVATE_UMASK:04o}\n"
        "# No memory with keys in it reaches the disk.\n"
        "LimitCORE=0\n"
        "\n"
        "[Install]\n"
        "WantedBy=default.target\n"
    )


def quoted(word: str) -> str:
    """A word as systemd reads it back: nothing in it is a separator, a specifier or an escape."""
    if _PLAIN.fullmatch(word):
        return word
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in word) + '"'


def launchd_agent(service: Service) -> str:
    """The text of an agent's property list."""
    agent = {
        "Label": LABEL,
        "ProgramArguments": list(service.argv),
        "EnvironmentVariables": dict(service.environ),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": RESTART_SECONDS,
        "ExitTimeOut": STOP_SECONDS,
        "Umask": PRIVATE_UMASK,
        "HardResourceLimits": {"Core": 0},
        # Its story is in the log; a file here would grow for ever.
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": "/dev/null",
    }
    return plistlib.dumps(agent, sort_keys=False).decode()
