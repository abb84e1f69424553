"""The exit code of a command, and one line for each kind of error."""

from collections.abc import Callable

from ccfallback.cli.console import ClosedPipe, ExitCode
from ccfallback.cli.session import Session
from ccfallback.errors import CcfallbackError


def run_safely(
    call: Callable[[], object],
    session: Session,
    interrupts: tuple[type[BaseException], ...] = (KeyboardInterrupt,),
) -> int:
    """Run a command; returns its exit code, and reports what it raises."""
    console = session.console
    try:
        code = call()
        console.flush()
    except ClosedPipe:
        return ExitCode.DONE
    except SystemExit as leaving:
        # typer treats a closed pipe as a failure.
        if isinstance(leaving.__context__, BrokenPipeError):
            console.abandon()
            return ExitCode.DONE
        raise
    except interrupts:
        if console.interactive:
            console.say("")  # So that the shell's prompt starts on a new line.
        return ExitCode.INTERRUPTED
    except CcfallbackError as error:
        return console.report(error)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's usage errors share no class that is public.
            return console.fail_usage(error)
        if session.environ.get("CCFALLBACK_DEBUG"):
            raise
        return console.fail_unexpectedly(error)
    return code if isinstance(code, int) else ExitCode.DONE
