"""`ccfallback help`: the pages of topics, the help of commands, and the codes of errors.

The pages are Markdown in `pages/`; where the program has a table of what a page lists, the page
includes that table. The man pages are made from the same.
"""

import os
import shlex
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Final

import typer

from ccfallback.cli.candidates import COMMANDS
from ccfallback.cli.console import PLAIN_WIDTH
from ccfallback.cli.help import commands, screen, topics
from ccfallback.cli.help.markup import Block, Entries, Entry, Heading, Paragraph
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of
from ccfallback.words import did_you_mean

if TYPE_CHECKING:
    from ccfallback.cli.console import Console

app = make_app()

_PAGER: Final = "less"
_LESS: Final = "FRX"
"""As git sets it: quit if the page fits the screen, show colours, and leave the page on it."""


def words() -> list[str]:
    """For `autocompletion`: topics and commands."""
    return [*topics.TOPICS, COMMANDS]


@app.command(
    "help",
    epilog="Example: ccfallback help config\nccfallback help providers add\nccfallback help E101",
)
def show_help(
    ctx: typer.Context,
    words: list[str] | None = typer.Argument(
        None,
        metavar="TOPIC",
        help="A topic, a command, or the code of an error. The index without one.",
        autocompletion=words,
    ),
    as_json: Json = False,
) -> None:
    """Explain a topic, a command or an error code.

    On a terminal a long page goes through $PAGER (less); not with NO_PAGER set.
    """
    console = session_of(ctx).console
    given = " ".join(words or []).split()
    name = given[0] if len(given) == 1 else ""
    if not given:
        title, blocks = "Topics of ccfallback help", _index()
        value: dict[str, Any] = {"topics": _topics_json()}
    elif name in topics.TOPICS:
        title, blocks = f"ccfallback {name}: {topics.TOPICS[name].title}", topics.read(name)
        value = {"topic": name, "text": topics.source(name)}
    elif (code := find_code(name)) is not None:
        title, blocks = code
        number, _, about = title.partition(": ")
        entries = [
            entry for block in blocks if isinstance(block, Entries) for entry in block.entries
        ]
        value = {"code": number, "title": about} | {e.term.lower(): e.text for e in entries}
    else:
        text = _command_help(ctx, given)
        console.emit({"command": " ".join(given), "text": text}, lambda: text)
        return
    if as_json or not console.is_terminal:
        console.emit(value, lambda: screen.render(title, blocks, PLAIN_WIDTH))
        return
    colour = console.colour
    _page(console, screen.render(title, blocks, console.width or PLAIN_WIDTH, colour=colour) + "\n")


def find_code(name: str) -> tuple[str, list[Block]] | None:
    """The title and the text of the error code that a person means by `CCF-E101` or `e101`."""
    wanted = "CCF-E" + name.upper().removeprefix("CCF-").removeprefix("E").zfill(3)
    parts = topics.split(topics.read("errors"))
    return next((part for part in parts.items() if part[0].startswith(f"{wanted}:")), None)


def _topics_json() -> list[dict[str, str]]:
    return [
        {"name": name, "group": group, "title": topic.title}
        for group, found in topics.GROUPS.items()
        for name, topic in found.items()
    ]


def _index() -> list[Block]:
    blocks: list[Block] = [
        Paragraph("`ccfallback help TOPIC` shows a page, `ccfallback help COMMAND` a command.")
    ]
    for group, found in topics.GROUPS.items():
        blocks += [
            Heading(group),
            Entries([Entry(name, topic.title) for name, topic in found.items()]),
        ]
    return blocks


def _find_command(words: list[str]) -> Any:
    """The command of these names; `None` if there is none."""
    from ccfallback.cli.help.tables import root

    command = root()
    for word in words:
        command = commands.below(command).get(word)
        if command is None:
            return None
    return command


def _command_help(ctx: typer.Context, words: list[str]) -> str:
    command = _find_command(words)
    if command is None:
        group = _find_command(words[:-1])
        known = [] if group is None else [*commands.below(group)]
        meant = did_you_mean(words[-1], known if len(words) > 1 else [*topics.TOPICS, *known])
        raise typer.BadParameter(
            f"no topic, command or error code {' '.join(words)!r}; "
            f"{meant or '`ccfallback help` lists the topics'}"
        )
    context = ctx.find_root()
    for name in words:
        context = type(context)(_find_command(words[: words.index(name) + 1]), context, name)
    return commands.full(command, context)


def _page(console: "Console", text: str) -> None:
    """Show a text through the pager; directly if there is none."""
    environ = console.environ
    command = environ.get("PAGER", _PAGER)
    words = shlex.split(command) if not environ.get("NO_PAGER") else []
    if not words or shutil.which(words[0]) is None or environ.get("TERM") == "dumb":
        console.write(text)
        return
    console.flush()
    settings = {**os.environ, "LESS": environ.get("LESS", _LESS), "LESSCHARSET": "utf-8"}
    # Ctrl-C is for the pager while it runs.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        subprocess.run(words, input=text.encode(), env=settings, check=False)
    except OSError:
        console.write(text)
    finally:
        signal.signal(signal.SIGINT, before)
