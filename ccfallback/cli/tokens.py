"""`ccfallback tokens`: the access tokens that clients of the proxy must send."""

from secrets import token_urlsafe
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ccfallback.addresses import is_loopback
from ccfallback.cli.console import Table
from ccfallback.cli.options import Json, make_app, token_names
from ccfallback.cli.phrases import UNDO, join_names
from ccfallback.cli.session import session_of
from ccfallback.config.model import Cap
from ccfallback.config.options import options
from ccfallback.errors import CcfallbackError, ConfigError
from ccfallback.words import did_you_mean

if TYPE_CHECKING:
    from ccfallback.config.edit import Document
    from ccfallback.config.model import Token
    from ccfallback.policy.spend import Limit

app = make_app(
    name="tokens", help="Create and revoke access tokens.", epilog="Example: ccfallback tokens list"
)

PREFIX: Final = "ccf-"
"""Tells users, and scanners for leaked secrets, what the token is for."""

STDIN: Final = "-"

_DAY, _MONTH = options(Cap)


@app.command("list", epilog="Example: ccfallback tokens list")
def list_tokens(ctx: typer.Context, as_json: Json = False) -> None:
    """List the access tokens, masked, with what is left of their caps.

    The log, `ccfallback stats` and `ccfallback spend --by token` name a token by its note, and one
    without a note by a hash.
    """
    from ccfallback.cli.caps import find_limits, limit_json

    session = session_of(ctx)
    config = session.say_config_in_use()
    limits: dict[str, list[Limit]] = {}
    for limit in find_limits(session, config, session.now()):
        limits.setdefault(limit.token, []).append(limit)
    found = [
        {
            "number": number,
            "note": token.note,
            "token": token.token.masked(),
            "label": token.label,
            "caps": [limit_json(limit) for limit in limits.get(token.label, ())],
        }
        for number, token in enumerate(config.tokens, 1)
    ]
    left = {each: ", ".join(map(_describe_left, limits.get(each, ()))) for each in limits}
    rows = [
        (str(each["number"]), token.note, token.token.masked(), left.get(token.label, "-"))
        for each, token in zip(found, config.tokens, strict=True)
    ]
    header = ("", "note", "token", "left of its cap")
    size = len(header) if any(token.cap.is_set for token in config.tokens) else 3
    session.console.emit(
        {"tokens": found},
        lambda: (
            Table([row[:size] for row in rows], header[:size])
            if rows
            else "no tokens: every client that reaches the proxy may use it"
        ),
    )


def _describe_left(limit: "Limit") -> str:
    from ccfallback.policy.spend import dollars

    return f"{dollars(limit.left)} of {dollars(limit.cap)} a {limit.period}"


@app.command("add", epilog="Example: ccfallback tokens add --note laptop --cap-day 5")
def add(
    ctx: typer.Context,
    note: str = typer.Option(
        "", "--note", metavar="TEXT", help="Who or what uses it, such as laptop."
    ),
    cap_day: Annotated[
        float | None, typer.Option(_DAY.flag, metavar=_DAY.metavar, help=_DAY.help)
    ] = None,
    cap_month: Annotated[
        float | None, typer.Option(_MONTH.flag, metavar=_MONTH.metavar, help=_MONTH.help)
    ] = None,
    as_json: Json = False,
) -> None:
    """Create an access token and print it, only this once.

    When its cap is reached, its requests are refused until the day or month ends.
    """
    from ccfallback.config.edit import add_token

    session = session_of(ctx)
    token = PREFIX + token_urlsafe(32)
    given = {_DAY.key: cap_day, _MONTH.key: cap_month}
    cap = {key: value for key, value in given.items() if value is not None}
    session.edit(lambda document: add_token(document, token, note, cap))
    tokens = session.config().tokens
    value = {"token": token, "note": note, "number": len(tokens), "cap": cap}
    session.console.emit(value, lambda: token)
    say = session.console.say
    say(f"token added; it is not shown again; {UNDO}")
    if len(tokens) == 1:
        say("from now on clients must send a token")
    say("`ccfallback env` prints what Claude Code needs on this machine; elsewhere it is")
    say("ANTHROPIC_CUSTOM_HEADERS='x-ccf-api-key: THE-TOKEN'")


@app.command("remove", epilog="Example: ccfallback tokens remove laptop")
def remove(
    ctx: typer.Context,
    which: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOKEN",
            help="A note, a masked token or a number as `list` shows them; - reads the token "
            "itself from stdin.",
            autocompletion=token_names,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Revoke access tokens.

    The next request with one of them is refused.
    """
    from ccfallback.config.edit import remove_tokens

    if not which:
        raise typer.BadParameter("name a token as `ccfallback tokens list` shows it, or -", ctx=ctx)
    session = session_of(ctx)
    wanted: list[str] = []
    for word in which:
        wanted += session.console.read_input().split() if word == STDIN else [word]
    if not wanted:
        raise CcfallbackError("there is no token on stdin", "give one on each line")

    def change(document: "Document") -> "list[Token]":
        # Under the lock, because another removal changes the numbers.
        config = session.config(may_be_missing=True)
        tokens = config.tokens
        indexes = sorted({_find(tokens, word) for word in wanted})
        if len(indexes) == len(tokens) and not is_loopback(config.server.host):
            raise ConfigError(
                f"without a token, every machine that reaches {config.server.host} could use the "
                "proxy; nothing was removed",
                "add another first with `ccfallback tokens add`, or listen on this machine only "
                "with `ccfallback config set server.host 127.0.0.1`",
            )
        remove_tokens(document, indexes)
        return [tokens[index] for index in indexes]

    removed = session.edit(change)
    shown = [{"note": token.note, "token": token.token.masked()} for token in removed]
    session.console.emit_result({"removed": shown})
    names = [token.note or token.token.masked() for token in removed]
    session.console.say(f"{join_names(names)} removed; {UNDO}")
    if not session.config().tokens:
        session.console.say("no tokens are left: every client that reaches the proxy may use it")


def _find(tokens: "tuple[Token, ...]", word: str) -> int:
    """The index of the token that a word names; a note has priority over a number."""
    for names in (
        [token.token.reveal() for token in tokens],
        [token.note for token in tokens],
        [token.token.masked() for token in tokens],
        [str(number) for number in range(1, len(tokens) + 1)],
    ):
        match [index for index, name in enumerate(names) if name == word]:
            case [index]:
                return index
            case [_, _, *_] as indexes:
                numbers = join_names([str(index + 1) for index in indexes], "or")
                raise ConfigError(f"{word} names several tokens", f"use a number: {numbers}")
    notes = [token.note for token in tokens if token.note]
    # The message does not repeat the word: it may be most of a token.
    raise ConfigError(
        "no token has that name", did_you_mean(word, notes) or "`ccfallback tokens list` lists them"
    )
