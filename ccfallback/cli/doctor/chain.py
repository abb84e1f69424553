"""The check of the chain: what the last `drill --live` has shown."""

from collections.abc import Iterator

from ccfallback.cli.chain_check import chain_summary, describe_check
from ccfallback.cli.doctor.context import DoctorContext, Finding, good, warning
from ccfallback.cli.phrases import join_names


def chain(context: DoctorContext) -> Iterator[Finding]:
    """Whether each provider has answered the last real request; nothing if there was none."""
    if context.config is None:
        return
    summary = chain_summary(context.session.store.peek().sections, context.config)
    if summary is None:
        return
    text = describe_check(summary, context.now)
    if summary.failed:
        names = join_names(list(summary.failed))
        yield warning("chain", f"{text}; not ready: {names}", "`ccfallback drill --live` says why")
    else:
        yield good("chain", text)
