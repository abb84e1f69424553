"""`providers add`, `remove`, `enable` and `disable`: the chain, changed.

Every change is one edit of the file, so it is made as a whole or not at all.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from ccfallback.cli.options import Json, Names
from ccfallback.cli.phrases import TAKE_BACK, listed
from ccfallback.cli.session import Session, require, session_of
from ccfallback.errors import CcfallbackError, ConfigError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

    from ccfallback.core.config import Config

BaseUrl = Annotated[
    str, typer.Option("--base-url", metavar="URL", help="The endpoint, or a base of it.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="F", help="anthropic or openai.  [default: anthropic]"),
]
AuthHeader = Annotated[
    str | None, typer.Option("--auth-header", metavar="H", help="The header that has the key.")
]
Retry = Annotated[
    int | None,
    typer.Option("--retry", metavar="N", help="Further tries on 5xx and network errors."),
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="K=V", help="A header to send; may be repeated."),
]
Mapping = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FROM=TO", help="A model by another name; may be repeated."),
]
KeyEnv = Annotated[
    str | None,
    typer.Option("--api-key-env", metavar="V", help="The variable that holds the key."),
]
KeyStdin = Annotated[bool, typer.Option("--api-key-stdin", help="Read the key from stdin.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key", metavar="K", help="The key itself; ps and the shell's history see it."
    ),
]


def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of your choice.")],
    base_url: BaseUrl,
    form: Format = None,
    auth_header: AuthHeader = None,
    retry: Retry = None,
    header: Headers = None,
    model: Mapping = None,
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
    from ccfallback.cli.providers.form import describe
    from ccfallback.store.config_edit import ProviderChanges, add_provider

    if [api_key is not None, api_key_env is not None, api_key_stdin].count(True) > 1:
        raise typer.BadParameter("give one of --api-key, --api-key-env and --api-key-stdin")
    headers = _pairs(header or [], "--header", "=:")
    mapping = _pairs(model or [], "--map", "=")
    session = session_of(ctx)
    # Before a key is asked for: nobody should type one in vain.
    _refuse_taken(session.config(), name)
    if api_key_stdin:
        api_key = _given_key(session)
    elif api_key is None and api_key_env is None and session.console.interactive:
        api_key = session.console.read_secret("API key (empty for none): ") or None
    changes = ProviderChanges(
        base_url=base_url,
        format=form,
        api_key=api_key,
        api_key_env=api_key_env,
        auth_header=auth_header,
        retry=retry,
        disabled=disabled or None,
        headers=headers or None,
        model_mapping=mapping or None,
    )
    session.edit(lambda document: add_provider(document, name, changes, position))
    config = session.config()
    added = config.provider(name)
    assert added is not None
    session.console.answer({"provider": describe(added)})
    place = f"fallback {config.providers.index(added) + 1} of {len(config.providers)}"
    session.console.say(f"{name} added as {place}{', disabled' if disabled else ''}; {TAKE_BACK}")


def remove(
    ctx: typer.Context,
    names: Names,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Accepted, and not needed.")] = False,
    as_json: Json = False,
) -> None:
    """Take providers out of the chain."""
    from ccfallback.core.config import PRIMARY_NAME
    from ccfallback.store.config_edit import remove_providers

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
    session.console.answer({"removed": removed})
    session.console.say(f"{listed(removed)} removed; {TAKE_BACK}")


def enable(ctx: typer.Context, names: Names, as_json: Json = False) -> None:
    """Use providers again."""
    _switch(session_of(ctx), names, disabled=False)


def disable(ctx: typer.Context, names: Names, as_json: Json = False) -> None:
    """Leave providers out, without forgetting them."""
    _switch(session_of(ctx), names, disabled=True)


def _switch(session: Session, names: list[str], *, disabled: bool) -> None:
    from ccfallback.store.config_edit import ProviderChanges, change_provider

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
    session.console.answer({word: changed, "unchanged": unchanged})
    if unchanged:
        verb = "was" if len(unchanged) == 1 else "were"
        session.console.say(f"{listed(unchanged)} {verb} {word} already; nothing to change")
    if changed:
        session.console.say(f"{listed(changed)} {word}; {TAKE_BACK}")


def _refuse_taken(config: "Config", name: str) -> None:
    from ccfallback.core.config import PRIMARY_NAME

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


def _given_key(session: Session) -> str:
    console = session.console
    key = console.read_secret("API key: ") if console.interactive else console.read_input().strip()
    if not key:
        raise CcfallbackError(
            "--api-key-stdin found no key on standard input",
            "pipe it in, as in `pass show openrouter | ccfallback providers add …`",
        )
    return key


def _pairs(items: Iterable[str], option: str, signs: str) -> dict[str, str]:
    """The `K=V` of an option that may be repeated."""
    pairs = {}
    for item in items:
        places = [place for sign in signs if (place := item.find(sign)) > 0]
        if not places or not item[min(places) + 1 :].strip():
            # The value is not repeated here: it may be a credential.
            raise typer.BadParameter("a name, `=` and a value are expected", param_hint=option)
        name, value = item[: min(places)], item[min(places) + 1 :]
        pairs[name.strip()] = value.strip()
    return pairs


def _names_in(document: "TOMLDocument") -> list[str]:
    """The names of the document's providers, broken ones left out."""
    tables = document.unwrap().get("providers", [])
    return [str(table["name"]) for table in tables if isinstance(table, dict) and "name" in table]
