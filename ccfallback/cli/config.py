"""`ccfallback config`: the configuration file as a whole, key by key, and its history.

The commands that repair a broken file do not load it: `edit`, `import`, `rollback`, `reset`.
"""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from ccfallback.cli import import_export
from ccfallback.cli.candidates import PROVIDER_KEYS
from ccfallback.cli.console import Table
from ccfallback.cli.options import Json, ShowKeys, Yes, make_app
from ccfallback.cli.phrases import UNDO, format_ago, wrap_text
from ccfallback.cli.session import CORRECT, ConfigBefore, Session, rectifier_names, session_of
from ccfallback.error_codes import ErrorCode
from ccfallback.errors import ConfigError

if TYPE_CHECKING:
    from ccfallback.config.edit import Document
    from ccfallback.config.file import ConfigFile, Version
    from ccfallback.config.model import Config

app = make_app(
    name="config",
    help="View, change and undo the configuration.",
    epilog="Example: ccfallback config get server.port",
)

MOST_LINES: Final = 3
"""Differences that the history lists for a version."""

EDITORS: Final = ("VISUAL", "EDITOR")


def key_names() -> list[str]:
    """For `autocompletion`: all keys."""
    from ccfallback.config.model import Config
    from ccfallback.config.schema import defaults, dotted_keys

    return [*sorted(dotted_keys(defaults(Config()))), PROVIDER_KEYS]


def _defaults(key: str, config: "Config") -> dict[str, Any]:
    """The default of each key; the switches of the repairs only for one of `rectifier`."""
    from ccfallback.config.schema import defaults

    found = defaults(config)
    if key.partition(".")[0] == "rectifier":
        found["rectifier"].update(dict.fromkeys(rectifier_names(), True))
    return found


Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="Such as server.port or providers.NAME.retry.", autocompletion=key_names
    ),
]


@app.command("show", epilog="Example: ccfallback config show")
def show(ctx: typer.Context, as_json: Json = False, show_keys: ShowKeys = False) -> None:
    """Print what the configuration file says; secrets are masked."""
    from ccfallback.config.schema import mask_table

    session = session_of(ctx)
    session.config()
    table = session.config_file.table()
    shown = table if show_keys else mask_table(table)

    def text() -> str:
        return (
            import_export.to_toml(shown).rstrip()
            or "nothing is set: all settings are at their defaults"
        )

    session.console.emit(shown, text)


@app.command("get", epilog="Example: ccfallback config get server.port")
def get(ctx: typer.Context, key: Key, as_json: Json = False, show_keys: ShowKeys = False) -> None:
    """Print the value of one key: what the file says, or the default."""
    from ccfallback.config.options import whole_numbers
    from ccfallback.config.schema import look_up, mask_table

    session = session_of(ctx)
    default = _defaults(key, session.config())
    table = session.config_file.table()
    if not show_keys:
        table, default = mask_table(table), mask_table(default)
    found = look_up(key, table, default)
    encoded = msgspec.json.encode(whole_numbers(found)).decode()
    plain = found if isinstance(found, str) else encoded
    session.console.emit({"key": key, "value": found}, lambda: plain)


@app.command("set", epilog="Example: ccfallback config set timeouts.first_byte 45")
def set_(
    ctx: typer.Context,
    key: Key,
    value: Annotated[
        str,
        typer.Argument(metavar="VALUE", help="A TOML value, or plain text; - reads it from stdin."),
    ],
    as_json: Json = False,
) -> None:
    """Set one key.

    A value that would not load is not written. Comments stay.
    """
    from ccfallback.config.edit import parse_value, set_key
    from ccfallback.config.model import SECTIONS
    from ccfallback.config.schema import require_key

    session = session_of(ctx)
    if "." not in key and key not in SECTIONS:
        default = _defaults(key, session.config(may_be_missing=True))
        require_key(key, session.config_file.table(), default)
    text = session.console.read_input().strip() if value == "-" else value

    def write(document: "Document") -> bool:
        before = document.text
        set_key(document, key, parse_value(text))
        return document.text != before

    is_torn = text[:1] in ("[", "{") and isinstance(parse_value(text), str)
    quotes = "it is not TOML: put it in single quotes, or the shell removes the double ones"
    changed = session.edit(write, quotes if is_torn else CORRECT)
    session.console.emit_result({"key": key, "changed": changed})
    session.console.say(f"{key} set; {UNDO}" if changed else "nothing changed")
    if changed and key.partition(".")[0] == "server" and key.endswith((".host", ".port")):
        from ccfallback.cli.running_server import find_registered_url

        if url := find_registered_url(session.paths):
            session.console.say(f"the running server stays at {url} until it is restarted")


app.command("export", epilog="Example: ccfallback config export backup.json")(import_export.export)
app.command(
    "import",
    epilog="Example: ccfallback config import backup.json\n"
    "ccfallback config import --from litellm config.yaml",
)(import_export.import_)
app.command("reset", epilog="Example: ccfallback config reset")(import_export.reset)


@app.command("path", epilog="Example: ccfallback config path")
def path(ctx: typer.Context, as_json: Json = False) -> None:
    """Print where the configuration, the state and the log are."""
    session = session_of(ctx)
    paths = session.paths
    value = {"config": str(paths.config), "state": str(paths.state), "log": str(paths.log)}
    # A pipe gets only the path that scripts need: `cat "$(ccfallback config path)"`.
    console = session.console
    rows = list(value.items())
    console.emit(value, lambda: Table(rows) if console.is_terminal else str(paths.config))


@app.command("validate", epilog="Example: ccfallback config validate")
def validate(ctx: typer.Context, as_json: Json = False) -> None:
    """Check the configuration, and list every fault.

    It is valid only if `serve` would start with it.
    """
    from ccfallback.server.listening import find_listen_address

    session = session_of(ctx)
    config = session.config()
    server = config.server
    find_listen_address(server.host, server.port, has_tokens=bool(config.tokens))
    names = [provider.name for provider in config.active]
    value = {"ok": True, "path": str(session.paths.config), "providers": names}
    text = f"{session.paths.config} is valid; the chain is {', '.join(names)}"
    session.console.emit(value, lambda: wrap_text(text, session.console.width))


@app.command("edit", epilog="Example: EDITOR=nano ccfallback config edit")
def edit(ctx: typer.Context) -> None:
    """Open the configuration in your editor.

    A text that would not load is kept as a draft, and the next edit continues with it.
    """
    from ccfallback.config.file import DraftFile

    session = session_of(ctx)
    written_before = ConfigBefore(session)
    file, draft = session.config_file, DraftFile(session.config_file.path)
    before = file.raw().decode("utf-8", "replace")
    unfinished = draft.read()
    if unfinished is not None:
        session.console.say("continuing with the draft that did not load last time")
    after = _open_editor(session, before if unfinished is None else unfinished)
    if after == before:
        draft.drop()
        session.console.say("nothing changed")
        return
    try:
        file.replace(after)
    except ConfigError as error:
        draft.keep(after)
        why = "" if error.faults else f": {error.message}"
        raise ConfigError(
            f"nothing was changed, because the new text would not load{why}",
            "`ccfallback config edit` continues with it; to start from the current file, remove "
            f"{draft.path}",
            faults=error.faults,
            source=str(draft.path),
        ) from None
    draft.drop()
    session.console.say(f"{file.path} saved; {UNDO}")
    session.say_open_door(written_before.config)


@app.command("unset", epilog="Example: ccfallback config unset timeouts.first_byte")
def unset(ctx: typer.Context, key: Key, as_json: Json = False) -> None:
    """Remove one key, so that its default applies again."""
    from ccfallback.config.edit import unset_key
    from ccfallback.config.schema import require_key

    session = session_of(ctx)
    require_key(key, session.config_file.table(), _defaults(key, session.config()))
    changed = session.edit(lambda document: unset_key(document, key))
    session.console.emit_result({"key": key, "changed": changed})
    session.console.say(f"{key} unset; {UNDO}" if changed else f"nothing changed: {key} is not set")


@app.command("history", epilog="Example: ccfallback config history")
def history(ctx: typer.Context, as_json: Json = False) -> None:
    """List the versions that `rollback` can bring back, newest first.

    With each one, the command that wrote it and what that changed.
    """
    session = session_of(ctx)
    session.require_config_file()
    file = session.config_file
    kept = file.versions()
    steps: dict[int, list[str] | None] = {}
    before: Version | None = None
    for version in reversed(kept):
        steps[version.number] = _changes(before, version)
        if steps[version.number] is not None:
            before = version
    shown = file.history()
    current = [version for version in kept if version not in shown]
    value = {
        "versions": [
            {
                "number": v.number,
                "replaced": round(v.time * 1000),
                "path": str(v.path),
                "by": v.by or None,
                "changes": steps[v.number],
            }
            for v in shown
        ]
    }
    rows = [
        (
            str(v.number),
            v.by or "-",
            _summary(steps[v.number], is_first=v is kept[-1]),
            "in use" if v in current else format_ago(v.time, session.now()),
        )
        for v in kept
    ]
    table = Table(rows, ("version", "written by", "what that changed", "replaced"))
    session.console.emit(value, lambda: table if shown else "no earlier versions yet")
    if shown:
        session.console.say(
            f"`ccfallback config diff N` compares; the files are in {kept[0].path.parent}"
        )


@app.command("diff", epilog="Example: ccfallback config diff 3")
def diff(
    ctx: typer.Context,
    number: Annotated[
        int | None,
        typer.Argument(
            metavar="N", help="A version of the history; by default what `rollback` would restore."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what has changed since version N; secrets are masked."""
    session = session_of(ctx)
    session.require_config_file()
    chosen, _ = _choose_version(session.config_file, number)
    changes = _changes(chosen, None, session.config_file.table())
    if changes is None:
        raise ConfigError(f"version {chosen.number} is not valid TOML", f"it is {chosen.path}")
    session.console.emit(
        {"version": chosen.number, "changes": changes},
        lambda: "\n".join(changes) or _SAME,
    )


_SAME: Final = "only comments or the form of the file differ"


def _changes(
    before: "Version | None", after: "Version | None", table: dict[str, Any] | None = None
) -> list[str] | None:
    """The lines that lead from one version to the next; `None` if one of them is not TOML."""
    import tomllib

    from ccfallback.config.changes import compare

    try:
        old, new = ({} if v is None else tomllib.loads(v.text()) for v in (before, after))
    except (ConfigError, ValueError, RecursionError):
        return None
    return list(compare(old, new if table is None else table).lines)


def _summary(lines: list[str] | None, *, is_first: bool) -> str:
    if lines is None:
        return "not valid TOML"
    if is_first and not lines:
        return "-"
    more = f" and {len(lines) - MOST_LINES} more" if len(lines) > MOST_LINES else ""
    return ", ".join(lines[:MOST_LINES]) + more if lines else "comments only"


def _choose_version(file: "ConfigFile", number: int | None) -> "tuple[Version, list[Version]]":
    """A version of the history, and the newer ones that are skipped: they would not load."""
    versions = file.versions()
    if not versions:
        raise ConfigError("there is no earlier version", "every change keeps the version before it")
    if number is None:
        chosen, skipped = file.last_other()
        if chosen is None:
            raise ConfigError(
                "no earlier version loads", "fix the file with `ccfallback config edit`"
            )
        return chosen, skipped
    found = next((version for version in versions if version.number == number), None)
    if found is None:
        raise ConfigError(f"there is no version {number}", "`ccfallback config history` lists them")
    return found, []


@app.command("rollback", epilog="Example: ccfallback config rollback")
def rollback(
    ctx: typer.Context,
    number: Annotated[
        int | None,
        typer.Argument(metavar="N", help="A version of the history; the newest by default."),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Restore the configuration before the last change, or version N.

    Versions that would not load are skipped. What changes is listed.
    """
    session = session_of(ctx)
    file = session.config_file
    chosen, skipped = _choose_version(file, number)
    before = ConfigBefore(session)
    try:
        changed = file.restore(chosen)
    except ConfigError as error:
        if error.code is not ErrorCode.BROKEN_CONFIG:
            raise
        raise ConfigError(
            f"nothing was changed: {error.message}",
            f"restore another version, or fix {chosen.path} and import it",
        ) from None
    changes = before.changes()
    session.console.emit_result(
        {
            "version": chosen.number,
            "changed": changed,
            "changes": None if changes is None else changes.lines,
            "skipped": [version.number for version in skipped],
        }
    )
    for version in skipped:
        session.console.say(f"version {version.number} skipped: it would not load ({version.path})")
    if not changed:
        session.console.say(f"nothing changed: the configuration is version {chosen.number}")
        return
    session.console.say(f"version {chosen.number} restored; {UNDO}")
    before.say_changes()


def _open_editor(session: Session, text: str) -> str:
    """The text after the user has edited it, in a file that only the user can read."""
    command = next((session.environ[name] for name in EDITORS if session.environ.get(name)), "")
    if not command and not session.console.interactive:
        raise ConfigError("there is no terminal for an editor", "set EDITOR, or edit the file")
    command = command or "vi"
    with tempfile.TemporaryDirectory(prefix="ccfallback-") as folder:
        copy = Path(folder) / "config.toml"
        handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise ConfigError(
                f"{command} is not a command: {error}", "set EDITOR to your editor"
            ) from None
        try:
            code = subprocess.run([*(words or ["vi"]), str(copy)], check=False).returncode
        except OSError as error:
            raise ConfigError(
                f"{command} can't be started: {error.strerror}", "set EDITOR to your editor"
            ) from None
        if code != 0:
            raise ConfigError(f"{command} exited with {code}", "nothing was changed")
        return copy.read_text("utf-8")


_ORDER: Final = (
    *("show", "get", "set", "unset", "edit", "validate", "path"),
    *("history", "diff", "rollback", "export", "import", "reset"),
)
app.registered_commands.sort(key=lambda each: _ORDER.index(each.name or ""))
