"""What `providers add` and `providers set` are given: the same options, the same meaning."""

import tomllib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ccfallback.cli.session import Session
from ccfallback.errors import CcfallbackError

if TYPE_CHECKING:
    from ccfallback.config.edit import ProviderChanges

BaseUrl = Annotated[
    str | None, typer.Option("--base-url", metavar="URL", help="The endpoint, or a base of it.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="anthropic, the default, or openai."),
]
AuthHeader = Annotated[
    str | None, typer.Option("--auth-header", metavar="HEADER", help="The header that has the key.")
]
Retry = Annotated[
    int | None,
    typer.Option("--retry", metavar="N", help="Further tries on 5xx and network errors."),
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="K=V", help="A header to send; may be repeated."),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="FROM=TO", help="A model by another name; may be repeated."),
]
KeyEnv = Annotated[
    str | None,
    typer.Option("--api-key-env", metavar="VAR", help="The variable that holds the key."),
]
KeyStdin = Annotated[bool, typer.Option("--api-key-stdin", help="Read the key from stdin.")]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key", metavar="KEY", help="The key itself; ps and the shell's history see it."
    ),
]
Switches = Annotated[
    list[str] | None,
    typer.Option(
        "--quirk", metavar="K=V", help="A switch, as max_output_tokens=8192; may be repeated."
    ),
]


def changes_of(
    *,
    base_url: str | None,
    form: str | None,
    auth_header: str | None,
    retry: int | None,
    header: list[str] | None,
    model: list[str] | None,
    quirk: list[str] | None,
    api_key_env: str | None,
    api_key: str | None,
    disabled: bool | None = None,
) -> "ProviderChanges":
    """The options as a change of a provider."""
    from ccfallback.config.edit import ProviderChanges

    return ProviderChanges(
        base_url=base_url,
        format=form,
        api_key=api_key,
        api_key_env=api_key_env,
        auth_header=auth_header,
        retry=retry,
        disabled=disabled,
        headers=pairs(header or [], "--header", "=:") or None,
        model_mapping=pairs(model or [], "--map", "=") or None,
        quirks=_switches(quirk or []) or None,
    )


def one_key_source(api_key: str | None, api_key_env: str | None, api_key_stdin: bool) -> None:
    """Refuse more than one way to give a key."""
    if [api_key is not None, api_key_env is not None, api_key_stdin].count(True) > 1:
        raise typer.BadParameter("give one of --api-key, --api-key-env and --api-key-stdin")


def given_key(session: Session) -> str:
    """The key on standard input."""
    console = session.console
    key = console.read_secret("API key: ") if console.interactive else console.read_input().strip()
    if not key:
        raise CcfallbackError(
            "--api-key-stdin found no key on standard input",
            "pipe it in, as in `pass show openrouter | ccfallback providers add …`",
        )
    return key


def pairs(items: Iterable[str], option: str, signs: str) -> dict[str, str]:
    """The `K=V` of an option that may be repeated."""
    found = {}
    for item in items:
        places = [place for sign in signs if (place := item.find(sign)) > 0]
        if not places or not item[min(places) + 1 :].strip():
            # The value is not repeated here: it may be a credential.
            raise typer.BadParameter("a name, `=` and a value are expected", param_hint=option)
        name, value = item[: min(places)], item[min(places) + 1 :]
        found[name.strip()] = value.strip()
    return found


def _switches(items: Iterable[str]) -> dict[str, Any]:
    """Switches with their values as the configuration writes them; an empty one takes it out."""
    found: dict[str, Any] = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign or not name.strip():
            raise typer.BadParameter("a name, `=` and a value are expected", param_hint="--quirk")
        found[name.strip()] = _value(value.strip()) if value.strip() else None
    return found


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # A word needs no quotes here.
        return text
