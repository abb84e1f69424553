"""How commands show the last check of the chain by real requests."""

from typing import TYPE_CHECKING, Any

from ccfallback.cli.phrases import format_ago

if TYPE_CHECKING:
    from ccfallback.config.model import Config
    from ccfallback.state.checks import Summary
    from ccfallback.state.sections import Sections


def summary_json(summary: "Summary | None") -> dict[str, Any] | None:
    """The last check, for scripts; `None` if there was none."""
    if summary is None:
        return None
    return {
        "checkedAt": round(summary.at * 1000),
        "ready": summary.ready,
        "of": summary.of,
        "failed": list(summary.failed),
    }


def describe_check(summary: "Summary | None", now: float) -> str:
    """`chain checked 3 h ago: 3 of 4 ready`; empty if it was not checked."""
    if summary is None:
        return ""
    ago = format_ago(summary.at, now)
    return f"chain checked {ago}: {summary.ready} of {summary.of} ready"


def chain_summary(sections: "Sections", config: "Config") -> "Summary | None":
    """The last check of the enabled providers, as far as they are still the same."""
    from ccfallback.policy.fingerprints import fingerprint
    from ccfallback.state.checks import CHECKS, summarize

    checks, active = CHECKS.read(sections), {each.name: each for each in config.active}
    same = {
        name: check
        for name, check in checks.items()
        if name in active and check.fingerprint == fingerprint(active[name])
    }
    return summarize(same, active)
