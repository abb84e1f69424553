"""The options of `providers add` and `providers set`, made from the rows of the option table."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccfallback.cli.session import Session
from ccfallback.config.checks import clean_key
from ccfallback.config.model import KeySource, Provider
from ccfallback.config.options import Option, options
from ccfallback.config.quirks import Quirks
from ccfallback.errors import CcfallbackError, ConfigError
from ccfallback.redact import scrub_misplaced
from ccfallback.words import did_you_mean

if TYPE_CHECKING:
    from ccfallback.cli.providers.findings import Finding

ROWS = tuple(row for row in options(Provider, deep=True) if row.flag)


def quirk_names() -> list[str]:
    """For `autocompletion`: quirks, each ready for its value."""
    return [f"{row.key}=" for row in options(Quirks)]


def other_parameters(
    quirk: Annotated[
        list[str] | None,
        typer.Option(
            "--quirk",
            metavar="K=V",
            help="A quirk, such as max_output_tokens=8192; repeatable.",
            autocompletion=quirk_names,
        ),
    ] = None,
    position: Annotated[
        int | None,
        typer.Option("--position", min=1, metavar="N", help="1 is right after the primary."),
    ] = None,
    api_key_stdin: Annotated[
        bool, typer.Option("--api-key-stdin", help="Read the key from stdin.")
    ] = False,
) -> None:
    """Options of both commands that are not keys of a provider."""


def with_provider_options(*, negatable: bool) -> Callable[[Any], Any]:
    """Replace the `**given` of a command by one parameter for each option of a provider.

    With `negatable`, a switch has both of its flags. The flag of the key itself comes last.
    """

    def decorate(command: Any) -> Any:
        own = inspect.signature(command).parameters.values()
        shared = inspect.signature(other_parameters).parameters.values()
        key_sources = options(KeySource)
        parameters = [
            *(each for each in own if each.default is each.empty and each.name != "given"),
            *(_parameter(row, negatable) for row in ROWS if row not in key_sources),
            *(each for each in own if each.default is not each.empty),
            *shared,
            *(_parameter(row, negatable) for row in reversed(ROWS) if row in key_sources),
        ]
        command.__signature__ = inspect.Signature(
            [each.replace(kind=each.KEYWORD_ONLY) for each in parameters]
        )
        return command

    return decorate


def _parameter(row: Option, negatable: bool) -> inspect.Parameter:
    flag = row.flag if negatable else row.flag.partition("/")[0]
    kind: Any = list[str] if row.separators or row.repeats_as else row.kind
    option = typer.Option(flag, metavar=row.metavar or None, help=row.help)
    return inspect.Parameter(
        parameter_name(row),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def parameter_name(row: Option) -> str:
    """The name of the parameter that a row becomes."""
    return row.path.replace(".", "_")


def changes_from(given: Mapping[str, Any], *, removing: bool) -> dict[str, Any]:
    """The options as changes of a provider, by key. With `removing`, a value may be empty."""
    changes: dict[str, Any] = {}
    for row in ROWS:
        key, value = row.path, given[parameter_name(row)]
        if row.separators:
            value = _pairs(value or [], row.flag, row.separators, removing) or None
        elif row.repeats_as and value is not None:
            key, value = _repeated(row, value)
        elif isinstance(value, str):
            value = value.strip()
            if removing and not value and row.path != row.key:
                changes[row.path] = None
                continue
        if value is not None:
            changes[key] = value
    return {**changes, **_quirks(given["quirk"] or [])}


def _repeated(row: Option, values: list[str]) -> tuple[str, str | list[str]]:
    """The key and the value of a flag that was given once or several times."""
    values = [clean_key(each) if row.key == "api_key" else each.strip() for each in values]
    return (row.key, values[0]) if len(values) == 1 else (row.repeats_as, values)


def refuse_several_keys(given: Mapping[str, Any]) -> None:
    """Refuse more than one way to give a key."""
    sources = (row.key for row in options(KeySource) if row.flag)
    if sum(given[key] is not None for key in sources) + given["api_key_stdin"] > 1:
        raise typer.BadParameter("give one of --api-key, --api-key-env and --api-key-stdin")


def read_key(session: Session) -> str:
    """The key on standard input."""
    console = session.console
    given = console.read_secret("API key: ") if console.interactive else console.read_input()
    key = clean_key(given)
    if not key:
        raise CcfallbackError(
            "--api-key-stdin found no key on standard input",
            "pipe it in, as in `pass show openrouter | ccfallback providers add …`",
        )
    return key


def _pairs(items: Iterable[str], flag: str, separators: str, removing: bool) -> dict[str, str]:
    """The `NAME=VALUE` of a flag that may be repeated."""
    found = {}
    for item in items:
        places = [place for sign in separators if (place := item.find(sign)) > 0]
        name, value = (item[: min(places)], item[min(places) + 1 :]) if places else ("", "")
        if not name.strip() or not (value.strip() or removing):
            # The message does not repeat the value: it may be a credential.
            raise typer.BadParameter("a name, `=` and a value are expected", param_hint=flag)
        found[name.strip()] = value.strip()
    return found


def _quirks(items: Iterable[str]) -> dict[str, Any]:
    """Quirks with their values as the file writes them; an empty value removes the key."""
    from ccfallback.config.edit import parse_value

    given = _pairs(items, "--quirk", "=", removing=True)
    return {name: parse_value(value) if value else None for name, value in given.items()}


def preset_names() -> list[str]:
    """For `autocompletion`: the names of presets."""
    from ccfallback.config.presets import presets

    return list(presets())


def complete_here(
    session: Session,
    changes: dict[str, Any],
    name: str,
    fill: Iterable[str],
    *,
    has_key: bool,
) -> tuple[dict[str, Any], list[str]]:
    """As `complete_from_preset`, with what this machine knows; and what that is, in words."""
    from ccfallback.cli.providers.facts import read_facts
    from ccfallback.cli.providers.findings import complete, describe_values
    from ccfallback.config.presets import presets

    preset = presets().get(name)
    if preset is None:
        return complete_from_preset(changes, name), []
    own = _pairs(fill, "--fill", "=", removing=False)
    facts = read_facts(session.environ, session.now)
    found = complete(preset, facts, changes, own, has_key=has_key)
    return settings(found), describe_values(found)


def settings(finding: "Finding") -> dict[str, Any]:
    """The settings of the provider that a finding means: its own, and those of its preset."""
    fill = [f"{name}={value}" for name, value in finding.fill.items()]
    return complete_from_preset(
        dict(finding.given), finding.preset.name, fill, has_key=finding.has_key
    )


def complete_from_preset(
    changes: dict[str, Any], name: str, fill: Iterable[str] = (), *, has_key: bool = False
) -> dict[str, Any]:
    """Changes completed with what a preset knows; what was given has priority.

    `fill` holds the `NAME=VALUE` of placeholders; `has_key` says that a key is given.
    """
    from ccfallback.config.platforms import OTHER, find_platform
    from ccfallback.config.presets import FILLED_BY, fill_in, placeholders, presets

    preset = presets().get(name)
    if preset is None:
        raise ConfigError(
            f"there is no preset {scrub_misplaced(name)}",
            did_you_mean(name, presets()) or "`ccfallback providers presets` lists them",
        )
    auth = changes.get("auth", "key" if has_key else preset.auth)
    known: dict[str, Any] = {"base_url": preset.base_url, "format": preset.format}
    known |= {f"google.{key}": value for key, value in preset.google.items()}
    if auth == "aws":
        known |= {f"aws.{key}": value for key, value in preset.aws.items()}
    if "project" in preset.google:
        # The format makes its address from these.
        del known["base_url"]
    known = {key: value for key, value in known.items() if key not in changes}
    headers = {**preset.headers, **changes.get("headers", {})}
    values = {"location": "global", **_pairs(fill, "--fill", "=", removing=False)}
    values |= {part: changes[key] for part, key in FILLED_BY.items() if key in changes}
    missing = [
        part for part in placeholders(*known.values(), *headers.values()) if part not in values
    ]
    if missing:
        flags = {row.path: f"{row.flag} {row.metavar}" for row in ROWS}
        ways = [flags.get(FILLED_BY.get(part, ""), f"--fill {part}=…") for part in missing]
        hint = f"give {' and '.join(ways)}"
        if set(missing) <= set(preset.placeholders) and "base_url" in known:
            example = preset.url(**{key: f"my-{key}" for key in preset.placeholders})
            hint += f", or the whole URL, as in --base-url {example}"
        raise ConfigError(f"{preset.title} needs your {' and '.join(missing)}", hint)
    known = {key: fill_in(value, values) for key, value in known.items()}
    platform = find_platform(
        preset.format, fill_in(preset.base_url, dict.fromkeys(preset.placeholders, "x"))
    )
    address = changes.get("base_url", "")
    if platform is not OTHER and address and find_platform(preset.format, address) is not platform:
        # A gateway's address does not tell the platform.
        known["platform"] = platform.name
    if auth != "key":
        known["auth"] = auth
    known["auth_header"] = preset.auth_header if auth == "key" else "Authorization"
    models = {**preset.models, **changes.get("model_mapping", {})}
    return {
        **known,
        **({"context_window": preset.context_window} if preset.context_window else {}),
        **preset.quirks,
        **changes,
        "headers": {key: fill_in(value, values) for key, value in headers.items()},
        "model_mapping": models,
    }
