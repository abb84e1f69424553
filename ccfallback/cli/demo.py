"""`ccfallback demo`: see the main job done, with no key and no network."""

import typer

from ccfallback.cli.console import ExitCode
from ccfallback.cli.log_printer import Teller
from ccfallback.cli.options import Json, make_app
from ccfallback.cli.session import session_of

app = make_app()


@app.command("demo", epilog="Example: ccfallback demo")
def demo(ctx: typer.Context, as_json: Json = False) -> None:
    """Send one request past a failing primary, all on this machine."""
    from ccfallback.simulator.demo import ANSWER, ASKED
    from ccfallback.simulator.demo import demo as run

    console = session_of(ctx).console
    tell = Teller(console)
    if not as_json:
        console.say("A primary that is overloaded, a fallback that is well, the proxy between:")
    result = run(lambda record: None if as_json else tell(record))
    value = {
        "ok": result.ok,
        "status": result.status,
        "provider": result.provider,
        "attempts": result.attempts,
        "seconds": result.seconds,
        "text": result.text,
    }
    if not result.ok:
        console.emit(value, lambda: f"the client saw {result.status} {result.text}".rstrip())
        console.say("this should not happen: please report it with the lines above")
        raise typer.Exit(ExitCode.FAILED)
    story = (
        f"\nasked     {ASKED}\n"
        f"answered  {ANSWER}\n"
        f"by        {result.provider}, in {result.seconds:.2f} s, "
        f"after {result.attempts} attempts"
    )
    console.emit(value, lambda: story)
    if not as_json:
        console.say("now for real: `ccfallback providers add`, then `ccfallback serve`")
