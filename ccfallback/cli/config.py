"""`ccfallback config`: the configuration file as a whole, and its history.

These commands also work while the file is broken, because they are what mends it.
"""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from ccfallback.cli import import_export as exchange
from ccfallback.cli import settings
from ccfallback.cli.console import Table
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.phrases import UNDO, format_ago, wrap_text
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import ConfigError

app = make_app(
    name="config",
    help="View, change and undo the configuration.",
    epilog="Example: ccfallback config get server.port",
)

app.command("show", epilog="Example: ccfallback config show")(settings.show)
app.command("get", epilog="Example: ccfallback config get server.port")(settings.get)
app.command("set", epilog="Example: ccfallback config set timeouts.first_byte 45")(settings.set_)
app.command("export", epilog="Example: ccfallback config export backup.json")(exchange.export)
app.command(
    "import",
    epilog="Example: ccfallback config import backup.json\n"
    "ccfallback config import --from litellm config.yaml",
)(exchange.import_)
app.command("reset", epilog="Example: ccfallback config reset")(exchange.reset)

EDITORS: Final = ("VISUAL", "EDITOR")


@app.command("path", epilog="Example: ccfallback config path")
def path(ctx: typer.Context, as_json: Json = False) -> None:
    """Print where the configuration, the state and the log are."""
    session = session_of(ctx)
    paths = session.paths
    value = {"config": str(paths.config), "state": str(paths.state), "log": str(paths.log)}
    # In a pipe the one that is asked for most: `cat "$(ccfallback config path)"`.
    console = session.console
    rows = list(value.items())
    console.emit(value, lambda: Table(rows) if console.is_terminal else str(paths.config))


@app.command("validate", epilog="Example: ccfallback config validate")
def validate(ctx: typer.Context, as_json: Json = False) -> None:
    """Check the configuration; every fault is listed."""
    session = session_of(ctx)
    config = session.config()
    names = [provider.name for provider in config.active]
    value = {"ok": True, "path": str(session.paths.config), "providers": names}
    told = f"{session.paths.config} is good: {', '.join(names)}"
    session.console.emit(value, lambda: wrap_text(told, session.console.width))


@app.command("edit", epilog="Example: EDITOR=nano ccfallback config edit")
def edit(ctx: typer.Context) -> None:
    """Open the configuration in your editor.

    What would not load is not taken over, but kept: the next edit goes on with it.
    """
    from ccfallback.config.file import DraftFile

    session = session_of(ctx)
    file, draft = session.config_file, DraftFile(session.config_file.path)
    before = file.path.read_text("utf-8", "replace") if file.path.exists() else ""
    unfinished = draft.read()
    if unfinished is not None:
        session.console.say("going on with what would not load the last time")
    after = _edited(session, before if unfinished is None else unfinished)
    if after == before:
        draft.drop()
        session.console.say("nothing changed")
        return
    try:
        file.replace(after)
    except ConfigError as error:
        draft.keep(after)
        why = "; ".join(map(str, error.faults)) or error.message
        raise ConfigError(
            f"nothing was changed, as this would not load: {why}",
            "`ccfallback config edit` goes on with it; to begin from the file as it is, remove "
            f"{draft.path}",
        ) from None
    draft.drop()
    session.console.say(f"{file.path} saved; {UNDO}")


@app.command("history", epilog="Example: ccfallback config history")
def history(ctx: typer.Context, as_json: Json = False) -> None:
    """List the versions that `rollback` can bring back, newest first."""
    session = session_of(ctx)
    versions = session.config_file.history()
    value = {
        "versions": [
            {"number": v.number, "replaced": round(v.time * 1000), "path": str(v.path)}
            for v in versions
        ]
    }
    rows = [(str(v.number), format_ago(v.time, session.now()), str(v.path)) for v in versions]
    shown = Table(rows, ("version", "replaced", "file"))
    session.console.emit(value, lambda: shown if rows else "no version is kept yet")


@app.command("rollback", epilog="Example: ccfallback config rollback")
def rollback(
    ctx: typer.Context,
    number: Annotated[
        int | None, typer.Argument(metavar="N", help="A version of the history; else the newest.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accepted and ignored.")] = False,
    as_json: Json = False,
) -> None:
    """Bring back the configuration before the last change, or N."""
    session = session_of(ctx)
    file = session.config_file
    versions = file.history()
    if not versions:
        raise ConfigError("there is no earlier version", "every change from now on keeps one")
    chosen = next((v for v in versions if number is None or v.number == number), None)
    if chosen is None:
        raise ConfigError(f"there is no version {number}", "`ccfallback config history` lists them")
    changed = file.restore(chosen)
    session.console.emit_result({"version": chosen.number, "changed": changed})
    if changed:
        session.console.say(f"version {chosen.number} is back; {UNDO}")
    else:
        session.console.say(f"nothing changed: the configuration is version {chosen.number}")


def _edited(session: Session, text: str) -> str:
    """What the person made of a text; nobody else can read it meanwhile."""
    command = next((session.environ[name] for name in EDITORS if session.environ.get(name)), "vi")
    with tempfile.TemporaryDirectory(prefix="ccfallback-") as folder:
        copy = Path(folder) / "config.toml"
        handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            code = subprocess.run([*shlex.split(command), str(copy)], check=False).returncode
        except OSError as error:
            raise ConfigError(
                f"{command} can't be started: {error.strerror}", "set EDITOR to your editor"
            ) from None
        if code != 0:
            raise ConfigError(f"{command} ended with {code}", "nothing was changed")
        return copy.read_text("utf-8")
