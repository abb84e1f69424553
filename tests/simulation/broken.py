"""Lines of the product that are broken on purpose, each with a seed that fails because of it.

`python -m tests.simulation --broken` proves it: with a line broken, its seed violates the invariant
that is named here; as the product is, the same seed violates none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any, Final


@dataclass(frozen=True)
class BrokenLine:
    """One line, what replaces it, and how it is found."""

    module: str
    line: str
    instead: str
    invariant: str
    seed: int
    hours: float = 4.0
    weather: str = "mixed"


LINES: Final[dict[str, BrokenLine]] = {
    "commit-gate": BrokenLine(
        "ccfallback.server.stream",
        "if not self._whole and (translator.started or translator.complete):",
        "if not self._whole:",
        "no_request_fails_in_vain",
        5,
    ),
    "half-open-release": BrokenLine(
        "ccfallback.server.health",
        "self._breakers.release(self._slots.pop(label, ()))",
        "self._slots.pop(label, ())",
        "half_open_places_are_free",
        1,
    ),
    "drop-after-commit": BrokenLine(
        "ccfallback.server.messages",
        "            self._log.torn(answer)\n",
        '            await send({"type": "http.response.body", "body": b""})\n'
        "            self._log.torn(answer)\n",
        "torn_answers_are_dropped",
        1,
    ),
    "reset-hint-maximum": BrokenLine(
        "ccfallback.policy.breaker",
        "min(outcome.until, now + limits.max_reset)",
        "outcome.until",
        "cooldowns_have_a_cap",
        28,
    ),
    "cooldown-by-credential": BrokenLine(
        "ccfallback.policy.breaker",
        "    if credential and outcome.fault in OF_ACCOUNT:\n",
        "    if False:\n",
        "the_primary_is_first",
        1237,
    ),
    "credential-stripping": BrokenLine(
        "ccfallback.wire.headers",
        'b"accept", b"content-type", b"user-agent"',
        'b"accept", b"content-type", b"user-agent", b"cookie"',
        "nothing_leaks",
        1,
    ),
    "safety-valve": BrokenLine(
        "ccfallback.policy.failover",
        "    if cooling:\n",
        "    if not cooling:\n        return\n    if False:\n",
        "every_request_tries_someone",
        34,
        8.0,
    ),
    "success-resets-the-count": BrokenLine(
        "ccfallback.policy.breaker",
        "state, failures=0, last_success=now",
        "state, last_success=now",
        "everything_is_well_in_the_end",
        13,
    ),
    "cooldown-of-a-torn-answer": BrokenLine(
        "ccfallback.policy.breaker",
        "    Fault.TORN: 10.0,\n",
        "    Fault.TORN: 0.0,\n",
        "a_torn_answer_costs_one_request",
        1,
    ),
    "ledger-row-once": BrokenLine(
        "ccfallback.server.spending",
        "[row for row in self._unsaved if id(row) not in found]",
        "list(self._unsaved)",
        "money_adds_up",
        12,
    ),
    "half-line-taken-back": BrokenLine(
        "ccfallback.events.journal",
        "        if not half:\n",
        "        if half >= 0:\n",
        "the_log_is_whole",
        12,
    ),
    "reached-cap": BrokenLine(
        "ccfallback.policy.spend",
        "return self.spent + self.reserved >= self.cap",
        "return self.spent + self.reserved >= 3 * self.cap",
        "caps_are_kept",
        4,
        weather="full",
    ),
    "full-window": BrokenLine(
        "ccfallback.policy.quota",
        "    return utilization >= least\n",
        "    return utilization > 9.0\n",
        "full_windows_are_spared",
        69,
        weather="full",
    ),
    "period-of-checks": BrokenLine(
        "ccfallback.server.check",
        "now - last >= every * (1 + JITTER * self._jitter)",
        "now - last >= 1200.0",
        "checks_are_rare",
        3,
        weather="full",
    ),
    "counts-settle": BrokenLine(
        "ccfallback.server.side_endpoints",
        '        """Count nothing: a side endpoint neither teaches nor spends."""\n',
        "        super().settle(provider, outcome, usage)\n",
        "side_endpoints_change_no_breaker",
        2,
        weather="full",
    ),
    "estimate-of-tokens": BrokenLine(
        "ccfallback.server.side_endpoints",
        'estimate = {"input_tokens": await estimate_tokens(body)}',
        "raise ClientGone",
        "counts_are_always_answered",
        21,
        weather="full",
    ),
    "last-resort": BrokenLine(
        "ccfallback.policy.error_response",
        "return min(left) if left and min(left) <= SOON else None",
        "return None",
        "compaction_is_the_last_resort",
        37,
        weather="full",
    ),
    "first-refusal-of-a-login": BrokenLine(
        "ccfallback.server.attempt",
        "            return Fault.LOGIN\n",
        "            return None\n",
        "the_primary_is_first",
        5,
    ),
}


def break_line(name: str) -> None:
    """Let this process import the product with a broken line."""
    broken = LINES[name]
    original: Callable[..., Any] = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, module: str) -> CodeType | None:
        if module != broken.module:
            found: CodeType | None = original(loader, module)
            return found
        path = loader.get_filename(module)
        source = loader.get_data(path).decode()
        assert source.count(broken.line) == 1, f"{broken.line!r} is not in {module} once"
        return compile(source.replace(broken.line, broken.instead), path, "exec")

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]
