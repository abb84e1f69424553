"""`ccfallback restart`: replace the running server by a new one at the same address."""

from contextlib import nullcontext

import typer

from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of

app = make_app()


@app.command("restart", epilog="Example: ccfallback restart")
def restart(ctx: typer.Context, as_json: Json = False) -> None:
    """Restart the running server, at the same address.

    The new one takes over at once, in the background, with the options of the old one, which
    finishes its answers. No connection is refused in between, except on Windows or if the
    address has changed. Without a running server, one is started. A configuration that does not
    load stops nothing.
    """
    from ccfallback.cli import background, serving
    from ccfallback.cli.service import manager_of_server

    session = session_of(ctx)
    config = session.config(may_be_missing=True)
    old = background.find_registered(session)
    manager = None if old is None else manager_of_server(session)
    if manager is not None:
        manager.run_each(manager.restart_commands)
        session.console.emit_result({"restarted": True, "url": None, "pid": None})
        session.console.say(f"{manager.name} has restarted the service")
        return
    options: list[str] = []
    taken = None
    if old is not None:
        options, port = list(old.options), ["--port", old.url.rpartition(":")[2]]
        at = options.index("--port") if "--port" in options else None
        # A free port was picked, which clients know by now.
        if at is not None and options[at + 1] == "0":
            options[at : at + 2] = port
        elif at is None and config.server.port == 0:
            options += port
        parsed = serving.parse(["serve", *options])
        host, number = (None, None) if parsed is None else (parsed.host, parsed.port)
        taken = background.take_over(
            session,
            old,
            config.server.host if host is None else host,
            config.server.port if number is None else number,
        )
        if taken is None:
            background.halt(session, old, wait=False)
    with taken or nullcontext():
        listener = None if taken is None else taken.listener
        new = background.launch(session, options, listener)
        if old is not None and taken is not None:
            # Both accept connections until the old one stops.
            background.ask_to_stop(old)
            taken.wait()
    session.console.emit_result({"restarted": old is not None, "url": new.url, "pid": new.pid})
    before = (
        "no server ran; one" if old is None else f"pid {old.pid} finishes its answers; the new one"
    )
    session.console.say(f"{before} runs in the background at {new.url} (pid {new.pid})")
    if old is not None and old.url != new.url:
        session.console.say(f"the address was {old.url}: clients need the new one")
