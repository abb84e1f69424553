"""The providers themselves: one small question to each, only where that was wished for."""

from collections.abc import Iterator

from ccfallback.cli.doctor.case import DoctorContext, Finding, good, judged
from ccfallback.cli.phrases import format_latency


def providers(case: DoctorContext) -> Iterator[Finding]:
    """Does every enabled provider answer."""
    from ccfallback.cli.providers.test import ask
    from ccfallback.server.diagnosis import PASSING

    if not case.online or case.config is None:
        return
    for result in ask(case.session, case.config, list(case.config.active), ()):
        name = f"{result.provider}, asked for {result.model}"
        if result.ok and result.tested:
            yield good("providers", f"{name}, answers in {format_latency(result.seconds)}")
        elif result.ok:
            yield good("providers", f"{result.provider}: {result.message}")
        else:
            grave = result.trouble not in PASSING
            yield judged("providers", f"{name}: {result.message}", result.hint, grave=grave)
