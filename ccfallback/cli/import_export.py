"""`config export|import|reset`: write, replace or empty the whole configuration."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import typer

from ccfallback.cli.foreign import PROGRAMS, read, translate
from ccfallback.cli.options import Json, Yes
from ccfallback.cli.phrases import UNDO
from ccfallback.cli.session import ConfigBefore, session_of
from ccfallback.error_codes import ErrorCode
from ccfallback.errors import ConfigError
from ccfallback.words import did_you_mean, pluralize

STREAM: Final = "-"

_BLANKS: Final = b" \t\r\n\x00\xef\xbb\xbf"
"""Bytes that say nothing: white space, a byte order mark, and what a lost write leaves."""

_JSON: Final = re.compile(r"\s*(?:\{|\[\s*[\{\]])")

_CAPITAL: Final = re.compile(r"(?<=[a-z])[A-Z]")


def export(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The file to write; - is stdout.")
    ] = STREAM,
    as_json: Json = False,
) -> None:
    """Write the whole configuration as JSON, keys in clear."""
    from ccfallback.files import real, replace_atomically

    session = session_of(ctx)
    session.config()
    data = to_json(session.config_file.table())
    if file == STREAM:
        session.console.write_bytes(data)
        return
    path = Path(file)
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {path.absolute().parent}", "create it first")
    if real(path) in map(real, session.paths):
        raise ConfigError(f"{file} is a file of ccfallback itself", "name another one")
    existed = path.exists()
    try:
        replace_atomically(path, data)
    except OSError as error:
        raise ConfigError(
            f"{file} can't be written: {error.strerror or error}",
            "check the permissions of its folder, and the free space on the disk",
        ) from None
    session.console.emit_result({"path": file, "overwritten": existed})
    verb = "overwritten" if existed else "written"
    session.console.say(f"{file} {verb}, with keys in clear; only you can read it")


def import_(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A JSON or TOML file, or --from's own file; - reads stdin."
        ),
    ],
    program: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PROGRAM",
            help=f"FILE belongs to {', '.join([*PROGRAMS][:-1])} or {[*PROGRAMS][-1]}.",
            autocompletion=lambda: list(PROGRAMS),
        ),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Replace the configuration by an export.

    A TOML file works too. A plain JSON array of providers, or another program's file (its
    config.json, config.yaml or database), replaces the providers only.
    """
    if program is not None and program not in PROGRAMS:
        meant = did_you_mean(program, PROGRAMS) or f"use one of {', '.join(PROGRAMS)}"
        raise typer.BadParameter(f"{program} is unknown; {meant}", param_hint="--from")
    session = session_of(ctx)
    data = session.console.read_input().encode() if file == STREAM else _read(Path(file))
    source = "the input" if file == STREAM else file
    if not data.strip(_BLANKS):
        raise ConfigError(
            "nothing to import: the input is empty",
            "to clear the configuration, use `ccfallback config reset`",
            code=ErrorCode.BAD_IMPORT,
        )
    text = "" if program is not None else _decode(file, data)
    before = ConfigBefore(session)
    try:
        current = session.config_file.table()
    except ConfigError:
        if program is not None or text.lstrip().startswith("["):
            raise  # The rest of the configuration, which should stay, is unknown.
        current = {}
    result: dict[str, Any] = {}
    if program is None:
        new = from_text(text, current, source)
    else:
        foreign = translate(program, read(program, data, None if file == STREAM else Path(file)))
        new = to_toml({**current, "providers": foreign.providers})
        result["left_out"] = foreign.omitted
    try:
        session.config_file.check(new, source, numbered=new == text.removeprefix("\ufeff"))
    except ConfigError as error:
        hint = "nothing was changed; fix the file, and import it again"
        code = ErrorCode.BAD_IMPORT
        raise ConfigError(
            error.heading, hint, faults=error.faults, source=source, code=code
        ) from None
    changed = session.config_file.replace(new)
    names = [provider.name for provider in session.config().providers]
    removed = _find_removed(before)
    session.console.emit_result(
        {"changed": changed, "providers": names, "removed": removed.names, **result}
    )
    if changed:
        session.say_implied_formats(names)
    for omitted in result.get("left_out", []):
        session.console.say(f"not imported: {omitted}")
    count = pluralize(len(names), "provider")
    parts = [f"{count} imported", *removed.parts]
    session.console.say(f"{', '.join(parts)}; {UNDO}" if changed else "nothing changed")
    if changed and program is not None:
        session.console.say("`ccfallback providers test` requests one token from each of them")
    session.say_open_door(before.config)


def reset(ctx: typer.Context, yes: Yes = False, as_json: Json = False) -> None:
    """Empty the configuration, which resets everything to its default."""
    session = session_of(ctx)
    before = ConfigBefore(session)
    changed = session.config_file.exists() and session.config_file.replace("")
    removed = _find_removed(before)
    session.console.emit_result({"changed": changed, "removed": removed.names})
    parts = ["all settings are at their defaults", *removed.parts]
    session.console.say(f"{', '.join(parts)}; {UNDO}" if changed else "nothing changed")
    session.say_open_door(before.config)


class _Removed(NamedTuple):
    """What a write has taken away."""

    names: list[str]
    parts: list[str]
    """It in words; empty if there is nothing."""


def _find_removed(before: ConfigBefore) -> _Removed:
    changes = before.changes()
    if changes is None:
        return _Removed([], [])
    parts = []
    if changes.removed:
        parts.append(f"{len(changes.removed)} removed: {', '.join(changes.removed)}")
    if changes.tokens_removed:
        parts.append(f"{pluralize(changes.tokens_removed, 'access token')} removed")
    return _Removed(list(changes.removed), parts)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}", "check the path") from None


def _decode(file: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"{file} can't be read: it is not UTF-8 text",
            "import the file of another program with `--from`",
        ) from None


def to_json(table: Mapping[str, Any]) -> bytes:
    """The whole configuration as one JSON object, keys in clear."""
    return msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n"


def to_toml(table: Mapping[str, Any]) -> str:
    """A table as TOML, without null, which TOML does not have."""
    import tomlkit

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: clean(item) for key, item in value.items() if item is not None}
        return [clean(item) for item in value] if isinstance(value, list) else value

    return tomlkit.dumps(clean(table))


def from_text(text: str, current: Mapping[str, Any], source: str = "the file") -> str:
    """The file for the JSON of an export, a plain array of providers, or TOML.

    A plain array replaces the providers in `current`. Raises `ConfigError`.
    """
    text = text.removeprefix("\ufeff")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as other:
            # The start of an array of objects is never TOML.
            why = _json_fault(text) if _JSON.match(text) else f"as TOML, {other}"
            message = f"neither JSON nor TOML: {why}"
            if source.endswith((".yaml", ".yml")):
                raise ConfigError(
                    f"{source} is {message}", "if it is LiteLLM's, import it with `--from litellm`"
                ) from None
            raise _refusal(source, message) from None
        if not any(table.values()):
            raise _nothing_in(source) from None
        return text
    if isinstance(found, list):
        if not all(isinstance(entry, dict) for entry in found):
            raise _refusal(source, "an array of something else than providers")
        found = {**current, "providers": [_from_plain(entry) for entry in found]}
    elif not isinstance(found, dict):
        raise _refusal(source, "neither a JSON object nor an array of providers")
    elif current and not any(found.values()):
        raise _nothing_in(source)
    return to_toml(found)


def _nothing_in(source: str) -> ConfigError:
    return ConfigError(
        f"nothing to import: {source} sets nothing",
        "to clear the configuration, use `ccfallback config reset`",
        code=ErrorCode.BAD_IMPORT,
    )


def _json_fault(text: str) -> str:
    """What is wrong with a JSON text, with its line and column, which msgspec does not say."""
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"as JSON, {error}"
    return "as JSON, it is malformed"


def _from_plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A provider of a plain array, its keys from `baseUrl` to `base_url`, without empty values."""
    return {
        _CAPITAL.sub(lambda letter: f"_{letter[0].lower()}", key): value
        for key, value in entry.items()
        if value not in (None, "", {})
    }


def _refusal(source: str, why: str) -> ConfigError:
    return ConfigError(
        f"{source} is {why}",
        "`ccfallback config export` shows the form",
        code=ErrorCode.BAD_IMPORT,
    )
