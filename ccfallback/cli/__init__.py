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

COMMANDS: Final = {
    "serve": "Run the proxy in the foreground until Ctrl-C.",
    "run": "Run Claude Code through the proxy.",
    "demo": "Send one request past a failing primary, all on this machine.",
    "drill": "Walk the configured chain through every fault there is.",
    "env": "Print the lines that point Claude Code at the server.",
    "status": "Say whether the proxy is up, how providers are, what came last.",
    "top": "Watch providers and requests, live.",
    "stats": "Count requests, failures, latency and tokens of each provider.",
    "statusline": "Print one line for Claude Code's status line: who serves now.",
    "providers": "See and change the chain of providers.",
    "breaker": "Show, reset and trip the circuit breakers.",
    "explain": "Tell the whole story of one request.",
    "logs": "Read the log.",
    "tokens": "Make and take back access tokens.",
    "config": "See, change and take back the configuration.",
    "doctor": "Find what is wrong, and say what to do about it.",
    "service": "Run the server as a service of this system.",
}
"""Modules with an `app`, named as their commands, in the order in which help lists them.

What each does is said here as well, so that the list of all of them loads none; a test compares.
"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["statusline"]:
        # Claude Code asks after every message: a parser would take longer than the answer.
        from ccfallback.cli.statusline_view import run as glance

        sys.exit(glance(os.environ))
    from ccfallback.cli.console import Console
    from ccfallback.cli.root import run
    from ccfallback.cli.session import Session

    # Known before anything can fail, because a failure is to be JSON as well.
    as_json = "--json" in takewhile(lambda argument: argument != "--", arguments)
    console = Console.for_process(as_json=as_json)
    sys.exit(run(arguments, Session(console=console, environ=os.environ)))
