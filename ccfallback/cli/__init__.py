"""The command line: where a command begins, and where every error ends.

A command computes a value and hands it to the console; it never prints and never exits. What it
raises becomes one line and an exit code in `root.run`, and nowhere else. Nothing is imported
before it is known to be needed, because a person waits for it.
"""

import os
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Final, NoReturn

COMMANDS: Final = (
    "serve",
    "run",
    "demo",
    "drill",
    "env",
    "status",
    "stats",
    "providers",
    "breaker",
    "explain",
    "logs",
    "tokens",
    "config",
    "doctor",
    "service",
)
"""Modules with an `app`, named as their commands, in the order in which help lists them."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    from ccfallback.cli.console import Console
    from ccfallback.cli.root import run
    from ccfallback.cli.session import Session

    arguments = list(sys.argv[1:] if argv is None else argv)
    # Known before anything can fail, because a failure is to be JSON as well.
    as_json = "--json" in takewhile(lambda argument: argument != "--", arguments)
    console = Console.of_process(as_json=as_json)
    sys.exit(run(arguments, Session(console=console, environ=os.environ)))
