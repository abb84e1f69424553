"""`providers add`, `set`, `move`, `remove`, `enable` and `disable`: the chain, changed.

Every change is one edit of the file, so it is made as a whole or not at all.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ccfallback.cli.options import Json, Name, Names
from ccfallback.cli.phrases import UNDO, join_names
from ccfallback.cli.providers.options import (
    AuthHeader,
    BaseUrl,
    Format,
    Headers,
    Key,
    KeyEnv,
    KeyStdin,
    Models,
    Retry,
    Switches,
    changes_of,
    given_key,
    one_key_source,
)
from ccfallback.cli.providers.presets import filled_in, preset_names
from ccfallback.cli.session import Session, require, session_of
from ccfallback.config.model import PRIMARY_NAME
from ccfallback.errors import CcfallbackError, ConfigError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

    from ccfallback.config.model import Config
    from ccfallback.policy.breaker import BreakerState


def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of your choice.")],
    base_url: BaseUrl = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="PRESET",
            help="Fill in what is known of it; `providers presets` lists them.",
            autocompletion=preset_names,
        ),
    ] = None,
    form: Format = None,
    auth_header: AuthHeader = None,
    retry: Retry = None,
    header: Headers = None,
    model: Models = None,
    quirk: Switches = None,
    position: Annotated[
        int | None,
        typer.Option("--position", min=1, metavar="N", help="1 is right after the primary."),
    ] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Add it, but don't use it.")] = False,
    as_json: Json = False,
    api_key_env: KeyEnv = None,
    api_key_stdin: KeyStdin = False,
    api_key: Key = None,
) -> None:
    """Add a provider to the chain."""
    from ccfallback.cli.providers.view import describe
    from ccfallback.config.edit import add_provider

    one_key_source(api_key, api_key_env, api_key_stdin)
    changes = changes_of(
        base_url=base_url,
        form=form,
        auth_header=auth_header,
        retry=retry,
        header=header,
        model=model,
        quirk=quirk,
        api_key_env=api_key_env,
        api_key=api_key,
        disabled=disabled or None,
    )
    if preset is not None:
        changes = filled_in(changes, preset)
    elif base_url is None:
        raise typer.BadParameter("give --base-url, or a --preset that knows it")
    session = session_of(ctx)
    # Before a key is asked for: nobody should type one in vain.
    _refuse_taken(session.config(), name)
    if api_key_stdin:
        changes = replace(changes, api_key=given_key(session))
    elif api_key is None and api_key_env is None and session.console.interactive:
        changes = replace(changes, api_key=_asked_key(session, preset))
    session.edit(lambda document: add_provider(document, name, changes, position))
    config = session.config()
    added = config.provider(name)
    assert added is not None
    session.console.emit_result({"provider": describe(added)})
    place = f"fallback {config.providers.index(added) + 1} of {len(config.providers)}"
    session.console.say(f"{name} added as {place}{', disabled' if disabled else ''}; {UNDO}")


def change(
    ctx: typer.Context,
    name: Name,
    base_url: BaseUrl = None,
    form: Format = None,
    auth_header: AuthHeader = None,
    retry: Retry = None,
    header: Headers = None,
    model: Models = None,
    quirk: Switches = None,
    position: Annotated[
        int | None,
        typer.Option("--position", min=1, metavar="N", help="1 is right after the primary."),
    ] = None,
    disabled: Annotated[
        bool | None, typer.Option("--disabled/--enabled", help="Leave it out, or use it.")
    ] = None,
    as_json: Json = False,
    api_key_env: KeyEnv = None,
    api_key_stdin: KeyStdin = False,
    api_key: Key = None,
) -> None:
    """Change what is given of a provider.

    An empty value takes a header (--header X-Title=), a model or a switch out.
    """
    from ccfallback.cli.providers.view import describe
    from ccfallback.config.edit import change_provider, move_provider

    one_key_source(api_key, api_key_env, api_key_stdin)
    session = session_of(ctx)
    before = session.config()
    require([name], [provider.name for provider in before.chain])
    changes = changes_of(
        base_url=base_url,
        form=form,
        auth_header=auth_header,
        retry=retry,
        header=header,
        model=model,
        quirk=quirk,
        api_key_env=api_key_env,
        api_key=given_key(session) if api_key_stdin else api_key,
        disabled=disabled,
    )

    def write(document: "TOMLDocument") -> None:
        change_provider(document, name, changes)
        if position is not None:
            move_provider(document, name, position)

    session.edit(write)
    after = session.config()
    changed = after.provider(name)
    assert changed is not None
    session.console.emit_result({"provider": describe(changed)})
    same = after == before
    session.console.say("nothing changed" if same else f"{name} changed; {UNDO}")


def move(
    ctx: typer.Context,
    name: Name,
    to: Annotated[int, typer.Option("--to", min=1, metavar="N", help="1 is after the primary.")],
    as_json: Json = False,
) -> None:
    """Put a provider in another place of the chain."""
    from ccfallback.config.edit import move_provider

    session = session_of(ctx)
    before = session.config()
    require([name], [provider.name for provider in before.chain])
    session.edit(lambda document: move_provider(document, name, to))
    after = session.config()
    names = [provider.name for provider in after.providers]
    session.console.emit_result({"providers": names})
    if after == before:
        session.console.say(f"{name} is there already; nothing to change")
    else:
        session.console.say(f"the chain now: {', '.join([PRIMARY_NAME, *names])}; {UNDO}")


def _asked_key(session: Session, preset: str | None) -> str | None:
    from ccfallback.config.presets import presets

    known = presets().get(preset) if preset is not None else None
    if known is not None and known.key_url:
        session.console.say(f"a key for {known.title} is to be had at {known.key_url}")
    return session.console.read_secret("API key (empty for none): ") or None


def remove(
    ctx: typer.Context,
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accepted and ignored.")] = False,
    as_json: Json = False,
) -> None:
    """Take providers out of the chain."""
    from ccfallback.config.edit import remove_providers

    if PRIMARY_NAME in names:
        raise CcfallbackError(
            f"{PRIMARY_NAME} can't be removed",
            f"leave it out with `ccfallback providers disable {PRIMARY_NAME}`",
        )
    session = session_of(ctx)
    names = list(dict.fromkeys(names))

    def take_out(document: "TOMLDocument") -> list[str]:
        # A name that is not there ends the edit before anything is written.
        require(names, _names_in(document))
        return remove_providers(document, names)

    removed = session.edit(take_out)
    session.console.emit_result({"removed": removed})
    session.console.say(f"{join_names(removed)} removed; {UNDO}")


def forget(ctx: typer.Context, names: Names, as_json: Json = False) -> None:
    """Forget what providers were learned to refuse.

    The next refusal teaches it again.
    """
    session = session_of(ctx)
    names = list(dict.fromkeys(names))
    require(names, [provider.name for provider in session.config().chain])
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
        session.console.say(f"{count} lesson{'' if count == 1 else 's'} forgotten")


def enable(ctx: typer.Context, names: Names, as_json: Json = False) -> None:
    """Use providers again."""
    _switch(session_of(ctx), names, disabled=False)


def disable(ctx: typer.Context, names: Names, as_json: Json = False) -> None:
    """Leave providers out, without forgetting them."""
    _switch(session_of(ctx), names, disabled=True)


def _switch(session: Session, names: list[str], *, disabled: bool) -> None:
    from ccfallback.config.edit import ProviderChanges, change_provider

    before = session.config()
    names = list(dict.fromkeys(names))
    require(names, [provider.name for provider in before.chain])
    changed = [
        provider.name
        for provider in before.chain
        if provider.name in names and provider.disabled is not disabled
    ]

    def switch(document: "TOMLDocument") -> None:
        for name in changed:
            change_provider(document, name, ProviderChanges(disabled=disabled))

    if changed:
        session.edit(switch)
    word = "disabled" if disabled else "enabled"
    unchanged = [name for name in names if name not in changed]
    session.console.emit_result({word: changed, "unchanged": unchanged})
    if unchanged:
        verb = "was" if len(unchanged) == 1 else "were"
        session.console.say(f"{join_names(unchanged)} {verb} {word} already; nothing to change")
    if changed:
        session.console.say(f"{join_names(changed)} {word}; {UNDO}")


def _refuse_taken(config: "Config", name: str) -> None:
    if name == PRIMARY_NAME:
        raise ConfigError(
            f"{PRIMARY_NAME} is the primary, and in the chain already",
            f"change it with `ccfallback providers set {PRIMARY_NAME}`, or choose another name",
        )
    if config.provider(name) is not None:
        raise ConfigError(
            f"there is a provider named {name} already",
            f"change it with `ccfallback providers set {name}`, or choose another name",
        )


def _names_in(document: "TOMLDocument") -> list[str]:
    """The names of the document's providers, broken ones left out."""
    tables = document.unwrap().get("providers", [])
    return [str(table["name"]) for table in tables if isinstance(table, dict) and "name" in table]
