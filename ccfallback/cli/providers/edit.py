"""`providers add`, `set`, `move`, `remove`, `enable`, `disable` and `forget`: change the chain.

Every command makes one edit of the file, so it happens as a whole or not at all.
"""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ccfallback.cli.chain import describe, describe_missing_key
from ccfallback.cli.options import Json, Name, Names
from ccfallback.cli.phrases import UNDO, join_names
from ccfallback.cli.providers.options import (
    changes_from,
    complete_here,
    preset_names,
    read_key,
    refuse_several_keys,
    with_provider_options,
)
from ccfallback.cli.session import Session, require, session_of
from ccfallback.config.checks import clean_key
from ccfallback.config.model import PRIMARY_NAME, KeySource
from ccfallback.config.options import options
from ccfallback.errors import CcfallbackError
from ccfallback.words import did_you_mean, pluralize

if TYPE_CHECKING:
    from ccfallback.config.edit import Document
    from ccfallback.config.model import Provider
    from ccfallback.policy.breaker import BreakerState

_KEYS: Final = frozenset(row.key for row in options(KeySource))
"""The options that say where a provider's key is."""


@with_provider_options(negatable=False)
def add(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name of your choice, or of a preset.")
    ],
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="PRESET",
            help="Fill in what is known about it; `providers presets` lists them.",
            autocompletion=preset_names,
        ),
    ] = None,
    fill: Annotated[
        list[str] | None,
        typer.Option(
            "--fill",
            metavar="NAME=VALUE",
            help="What the preset leaves open, such as resource=mine; repeatable.",
        ),
    ] = None,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Add a provider to the chain.

    The name of a preset needs no --preset. What a preset leaves open, such as region, project or
    login, is taken from this machine: variables, and the files of AWS, gcloud, az and Claude Code.
    """
    from ccfallback.config.edit import ProviderChanges, add_provider, require_free_name
    from ccfallback.config.presets import presets

    refuse_several_keys(given)
    changes = changes_from(given, removing=False)
    session = session_of(ctx)
    # Before the prompt for a key: the user should not type one in vain.
    require_free_name(name, session.config(may_be_missing=True).names)
    has_key = any(given[name] for name in ("api_key", "api_key_env", "api_key_stdin"))
    remarks: list[str] = []
    if preset is None and not changes.keys() & {"base_url", "format"} and name in presets():
        preset = name
    if preset is not None:
        changes, remarks = complete_here(session, changes, preset, fill or (), has_key=has_key)
        has_key = has_key or any(key.startswith("api_key") for key in changes)
    elif fill:
        raise typer.BadParameter("it is for a --preset", param_hint="--fill")
    elif "base_url" not in changes and not _has_own_address(changes.get("format")):
        meant = did_you_mean(name, presets())
        raise typer.BadParameter(
            f"give --base-url, or a --preset that knows it; {meant}".rstrip("; ")
        )
    if given["api_key_stdin"]:
        changes["api_key"] = read_key(session)
    elif not has_key and "auth" not in changes and session.console.interactive:
        changes |= _prompted_key(session, preset)
    session.edit(
        lambda document: add_provider(document, name, ProviderChanges(changes), given["position"])
    )
    config = session.config()
    added = config.provider(name)
    assert added is not None
    session.console.emit_result({"provider": describe(added)})
    place = f"fallback {config.providers.index(added) + 1} of {len(config.providers)}"
    state = ", disabled" if added.disabled else ""
    for remark in remarks:
        session.console.say(remark)
    session.console.say(f"{name} added as {place}{state}; {UNDO}")
    if preset == name:
        session.console.say(f"its settings are those of the preset {preset}")
    session.say_implied_formats([name])
    _say_what_is_missing(session, added)


def _say_what_is_missing(session: Session, provider: "Provider") -> None:
    """Say which key a provider needs before any request can be sent to it."""
    from ccfallback.wire import FORMATS

    key = FORMATS[provider.format].missing_key(provider)
    if key:
        session.console.say(
            f"{provider.name} can't be used yet: set providers.{provider.name}.{key}, "
            f"with `ccfallback providers set {provider.name}` or `ccfallback config edit`"
        )
    elif missing := describe_missing_key(provider):
        command = f"ccfallback providers set {provider.name} --api-key-stdin"
        session.console.say(f"{missing}: `{command}`, or --api-key-env VARIABLE")


@with_provider_options(negatable=True)
def set_(ctx: typer.Context, name: Name, as_json: Json = False, **given: Any) -> None:
    """Change settings of a provider.

    An empty value removes a header (--header X-Title=), a model, a quirk, or what is set for aws
    or google (--aws-profile "").
    """
    from ccfallback.config.edit import ProviderChanges, change_provider, move_provider

    refuse_several_keys(given)
    session = session_of(ctx)
    before = session.config(may_be_missing=True)
    require([name], before.names)
    changes = changes_from(given, removing=True)
    if given["api_key_stdin"]:
        changes["api_key"] = read_key(session)
    elif changes.get("auth", "key") != "key" and not changes.keys() & _KEYS:
        # A key has priority over a login, so the login would not be used.
        changes |= dict.fromkeys(_KEYS)

    def write(document: "Document") -> None:
        change_provider(document, name, ProviderChanges(changes))
        if given["position"] is not None:
            move_provider(document, name, given["position"])

    session.edit(write)
    after = session.config()
    changed = after.provider(name)
    assert changed is not None
    session.console.emit_result({"provider": describe(changed)})
    same = after == before
    session.console.say("nothing changed" if same else f"{name} changed; {UNDO}")
    if "base_url" in changes or "format" in changes:
        session.say_implied_formats([name])
    _say_what_is_missing(session, changed)


def move(
    ctx: typer.Context,
    name: Name,
    to: Annotated[int, typer.Option("--to", min=1, metavar="N", help="1 is after the primary.")],
    as_json: Json = False,
) -> None:
    """Move a provider to another place in the chain."""
    from ccfallback.config.edit import move_provider

    session = session_of(ctx)
    before = session.config(may_be_missing=True)
    require([name], before.names)
    session.edit(lambda document: move_provider(document, name, to))
    after = session.config()
    names = [provider.name for provider in after.providers]
    session.console.emit_result({"providers": names})
    if after == before:
        session.console.say(f"{name} is already there; nothing to change")
    else:
        session.console.say(f"the chain is now {', '.join([PRIMARY_NAME, *names])}; {UNDO}")


def _has_own_address(format_name: str | None) -> bool:
    """Whether the address of a provider follows from its other options."""
    from ccfallback.config.model import Provider
    from ccfallback.wire import FORMATS

    wire = FORMATS.get(format_name or "")
    return wire is not None and wire.default_base_url(Provider(name="p", base_url="")) is not None


def _prompted_key(session: Session, preset: str | None) -> dict[str, str]:
    from ccfallback.config.presets import presets

    known = presets().get(preset) if preset is not None else None
    if known is not None and known.key_url:
        session.console.say(f"get a key for {known.title} at {known.key_url}")
    key = clean_key(session.console.read_secret("API key (empty for none): "))
    return {"api_key": key} if key else {}


def remove(
    ctx: typer.Context,
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accepted and ignored.")] = False,
    as_json: Json = False,
) -> None:
    """Remove providers from the chain."""
    from ccfallback.config.edit import provider_names, remove_providers

    if PRIMARY_NAME in names:
        raise CcfallbackError(
            f"{PRIMARY_NAME} can't be removed",
            f"to stop using it, `ccfallback providers disable {PRIMARY_NAME}`",
        )
    session = session_of(ctx)
    names = list(dict.fromkeys(names))

    def write(document: "Document") -> list[str]:
        # An unknown name ends the edit before anything is written.
        require(names, filter(None, provider_names(document)))
        return remove_providers(document, names)

    removed = session.edit(write)
    session.console.emit_result({"removed": removed})
    session.console.say(f"{join_names(removed)} removed; {UNDO}")


def forget(ctx: typer.Context, names: Names, as_json: Json = False) -> None:
    """Forget what ccfallback learned that providers reject.

    It is learned again from the next refusal.
    """
    from msgspec.structs import replace

    session = session_of(ctx)
    names = list(dict.fromkeys(names))
    require(names, session.config().names)
    forgotten: dict[str, int] = {}

    def clear(states: "dict[str, BreakerState]") -> "dict[str, BreakerState]":
        for name in names:
            if name in states and states[name].learned:
                forgotten[name] = len(states[name].learned)
                states[name] = replace(states[name], learned=())
        return states

    session.store.update(clear)
    session.console.emit_result({"forgotten": forgotten})
    count = sum(forgotten.values())
    if not count:
        session.console.say("nothing to forget")
    else:
        session.console.say(f"{pluralize(count, 'learned rejection')} forgotten")


def enable(ctx: typer.Context, names: Names, as_json: Json = False) -> None:
    """Use providers again."""
    _switch(session_of(ctx), names, disabled=False)


def disable(ctx: typer.Context, names: Names, as_json: Json = False) -> None:
    """Stop using providers, but keep them in the configuration."""
    _switch(session_of(ctx), names, disabled=True)


def _switch(session: Session, names: list[str], *, disabled: bool) -> None:
    names = list(dict.fromkeys(names))
    changed = switch_providers(session, names, disabled=disabled)
    word = "disabled" if disabled else "enabled"
    unchanged = [name for name in names if name not in changed]
    session.console.emit_result({word: changed, "unchanged": unchanged})
    if unchanged:
        verb = "was" if len(unchanged) == 1 else "were"
        session.console.say(f"{join_names(unchanged)} {verb} already {word}; nothing to change")
    if changed:
        session.console.say(f"{join_names(changed)} {word}; {UNDO}")


def switch_providers(session: Session, names: list[str], *, disabled: bool) -> list[str]:
    """Disable or enable providers; returns the names of those that were not so already."""
    from ccfallback.config.edit import ProviderChanges, change_provider

    before = session.config(may_be_missing=True)
    require(names, before.names)
    changed = [
        provider.name
        for provider in before.chain
        if provider.name in names and provider.disabled is not disabled
    ]

    def switch(document: "Document") -> None:
        for name in changed:
            change_provider(document, name, ProviderChanges(disabled=disabled))

    if changed:
        session.edit(switch)
    return changed
