"""The command line: where every command starts, and where every error ends.

A command computes a value and passes it to the console; it never prints and never exits. `exits`
alone turns what it raises into one line and an exit code. Modules are imported only when they are
needed, because the user is waiting.
"""

from __future__ import annotations

import gc
import os
import sys
from itertools import takewhile

TYPE_CHECKING = False
"""What type checkers take for true: to import `typing` would be a third of what `--help` takes."""
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final, NoReturn

COMMANDS: Final = {
    "init": "Set up a chain from what this machine has, and test it.",
    "serve": "Run the proxy in the foreground until Ctrl-C.",
    "stop": "Stop the running server.",
    "restart": "Restart the running server, at the same address.",
    "run": "Run Claude Code through the proxy.",
    "demo": "Send one request past a failing primary, all on this machine.",
    "drill": "Test the configured chain against every known fault, offline.",
    "env": "Print the lines that point Claude Code at the server.",
    "status": "Show whether the proxy is up, provider health and recent requests.",
    "quota": "Show the windows of the primary's plan: used, resets, forecast.",
    "top": "Watch providers and requests live.",
    "stats": "Count requests, failures, latency and tokens of each provider.",
    "spend": "Show what the answers have cost, and what is left of caps.",
    "statusline": "Print one line for Claude Code's status line.",
    "providers": "Show and change the chain of providers.",
    "breaker": "Show, reset and trip the circuit breakers.",
    "requests": "List requests from the log, newest first.",
    "explain": "Explain what happened to one request, attempt by attempt.",
    "logs": "Read the log.",
    "tokens": "Create and revoke access tokens.",
    "config": "View, change and undo the configuration.",
    "doctor": "Find what is wrong, and show what to do about it.",
    "service": "Run the server as a user service (systemd or launchd).",
    "completion": "Print the completion script of a shell, or install it.",
    "help": "Explain a topic, a command or an error code.",
}
"""The modules with an `app`, which are named like their commands, in the order of the help.

The summaries are repeated here so that completion imports none of the modules; a test compares
them.
"""

HELP: Final = {
    "Start": {
        "demo, init": "See a failover, offline; set up a chain.",
        "run": "Run Claude Code through the proxy.",
        "serve, stop, restart": "Run the proxy, also in the background.",
        "env, service": "Point Claude Code at it; start it at login.",
    },
    "Watch": {
        "status, top": "Is it up, how are the providers; also live.",
        "requests, explain": "The latest requests; what happened to one.",
        "stats, spend, quota": "Failures, latency, money, plan windows.",
        "logs, statusline": "The log; one line for Claude Code's status line.",
    },
    "Chain": {
        "providers": "Add, test, change and order the providers.",
        "breaker": "See and reset failures and cooldowns.",
        "drill": "Test the chain against every known fault.",
    },
    "Settings": {
        "config, tokens": "The settings, with undo; access tokens.",
        "doctor": "Find what is wrong, and what to do about it.",
        "completion, help": "Complete in your shell; topics and errors.",
    },
}
"""What `ccfallback --help` says, in groups. It fits a screen of 24 lines, so related commands share
a row."""

COMPLETION: Final = "_CCFALLBACK_COMPLETE"
"""The variable by which the completion script of a shell asks for candidates."""

OBJECTS: Final = 50_000
"""New objects after which the garbage collector runs in a command; `serve` sets its own number."""

SUMMARY: Final = "Keep Claude Code working whatever happens to its API."


def format_help(command: str = "ccfallback") -> str:
    """What `--help` prints: one screen."""
    lines = [f"Usage: {command} [OPTIONS] COMMAND [ARGS]...", SUMMARY, ""]
    for group, rows in HELP.items():
        for number, (names, text) in enumerate(rows.items()):
            lines.append(f"{'' if number else group:<10}{names:<22}{text}")
        lines.append("")
    lines += ["Options: --config, --state, --log-file PATH (`help files`), --version, --help"]
    lines += ["Example: ccfallback help config", ""]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    if argv is None:
        # Imports make many objects and no garbage: looking for it would be 5% of a command.
        gc.set_threshold(OBJECTS)
    try:
        sys.exit(_run(argv))
    except KeyboardInterrupt:
        # While modules were imported; a command handles it itself.
        sys.exit(128 + 2)


def _import_msgspec_alone() -> None:
    """Import msgspec without `typing_extensions`, which it prefers to `typing` where it finds it.

    Python has had all of that since 3.11, and the import takes longer than msgspec's own.
    """
    if "msgspec" in sys.modules or "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # marks a missing module
    try:
        import msgspec  # noqa: F401  # to have it loaded this way
    finally:
        del sys.modules["typing_extensions"]


def _run(argv: Sequence[str] | None) -> int:
    if COMPLETION in os.environ:
        from ccfallback.cli.candidates import answer

        return answer(os.environ, COMPLETION)
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--help"], ["-h"]) and sys.stdout is not None:
        try:
            sys.stdout.write(format_help())
            sys.stdout.flush()
        except OSError:
            # The usual way, below, reports it.
            pass
        else:
            return 0
    _import_msgspec_alone()
    from ccfallback.cli.file_options import split_files

    files, words = split_files(arguments)
    if words == ["statusline"] or words[:-1] == ["statusline", "--then"]:
        # Claude Code runs this after every message: parsing would take longer than the answer.
        from ccfallback.cli.statusline_view import run as print_status_line

        return print_status_line(os.environ, "".join(words[2:]), files)
    from ccfallback.cli.console import Console
    from ccfallback.cli.session import Session

    # Decided before anything can fail, because the error has to be JSON, too.
    as_json = "--json" in takewhile(lambda argument: argument != "--", arguments)
    console = Console.for_process(as_json=as_json)
    session = Session(console=console, environ=os.environ)
    if words[:1] == ["serve"]:
        from ccfallback.cli import serving

        if (server := serving.parse(words)) is not None:
            return serving.run(session, files, server)
    if words[:2] == ["providers", "list"] and set(words[2:]) <= {"--json"}:
        # Scripts ask for the chain, and parsing would take as long as the rest.
        from ccfallback.cli.chain import print_chain
        from ccfallback.cli.exits import run_safely

        def call() -> None:
            session.locate(*files)
            print_chain(session)

        return run_safely(call, session)
    from ccfallback.cli.root import run

    return run(words, session, files)
