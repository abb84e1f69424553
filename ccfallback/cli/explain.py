"""`ccfallback explain`: why a request went where it went."""

from typing import Annotated

import typer

from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import Session, session_of
from ccfallback.errors import CcfallbackError

app = make_app()


@app.command("explain", epilog="Example: ccfallback explain k3f9x2a")
def explain(
    ctx: typer.Context,
    request: Annotated[
        str | None,
        typer.Argument(
            metavar="REQUEST_ID",
            help="A request's id, or how it begins or ends; else the last one that needed more "
            "than one attempt.",
        ),
    ] = None,
    newest: Annotated[bool, typer.Option("--last", help="Simply the last request.")] = False,
    as_json: Json = False,
) -> None:
    """Explain what happened to one request, attempt by attempt.

    Who was tried or passed by, why, on what evidence, what was repaired, and who answered.
    """
    from ccfallback.cli import timeline
    from ccfallback.events.explain import explain as told
    from ccfallback.events.journal_requests import records_of

    if request is not None and newest:
        raise typer.BadParameter("give a request's id or --last, not both", ctx=ctx)
    session = session_of(ctx)
    console = session.console
    found = _chosen(session, request, newest=newest)
    explanation = told(records_of(session.paths.log, found))
    console.emit(
        {"request": explanation},
        lambda: "\n".join(timeline.lines(explanation, console.width, console.paint)),
    )


def _chosen(session: Session, request: str | None, *, newest: bool) -> str:
    """The whole id of the request that is meant."""
    from ccfallback.events.journal_requests import last, last_with_trouble, named

    log, console = session.paths.log, session.console
    if request is not None:
        found = named(log, request)
        if found is None:
            raise CcfallbackError(
                f"the log knows no request {request}",
                "`ccfallback logs tail` shows the last letters of each; older ones are rotated out",
            )
        if found.others:
            count = f"{found.others} other request{'s' if found.others > 1 else ''}"
            console.say(f"{count} would fit as well; this is the latest")
        return found.id
    chosen = None if newest else last_with_trouble(log)
    if chosen is not None:
        return chosen
    latest = last(log)
    if latest is None:
        raise CcfallbackError(
            f"no request is in the log at {log}",
            "`ccfallback serve` writes it, from the first request on",
        )
    if not newest:
        console.say("no request needed more than one attempt; this is the last one")
    return latest
