"""`ccfallback stop`: stop the running server."""

import typer

from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of

app = make_app()


@app.command("stop", epilog="Example: ccfallback stop")
def stop(
    ctx: typer.Context,
    now: bool = typer.Option(False, "--now", help="Drop the answers that have not ended."),
    as_json: Json = False,
) -> None:
    """Stop the running server.

    It accepts no more requests, after `server.drain_delay` if that is set, and ends when the last
    answer has, 30 s later at most. Windows can't ask a process to end: there it ends at once.
    """
    from ccfallback.cli import background
    from ccfallback.cli.service import manager_of_server
    from ccfallback.errors import ServeError

    session = session_of(ctx)
    running = background.find_registered(session)
    if running is None:
        other = background.find_unregistered(session)
        if other is not None:
            raise ServeError(
                f"the server at {other.url} (pid {other.pid}) uses another state file, or a later "
                "server took its place there",
                f"name the file with --state, or `kill {other.pid}`",
            )
        session.console.emit_result({"stopped": False, "pid": None, "url": None})
        session.console.say("nothing to stop: no server runs")
        return
    manager = manager_of_server(session)
    if manager is not None and not now:
        manager.run_each(manager.halt_commands)
    else:
        background.halt(session, running, now=now)
    session.console.emit_result({"stopped": True, "pid": running.pid, "url": running.url})
    by = "" if manager is None else "; `ccfallback service start` starts it again"
    session.console.say(f"the server at {running.url} (pid {running.pid}) has stopped{by}")
