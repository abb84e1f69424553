"""The modules that mutation testing looks at, and the mutants that change nothing one could see."""

from typing import Final

MODULES: Final[dict[str, tuple[str, ...]]] = {
    "policy/affinity": ("policy/test_affinity.py", "policy/test_week.py"),
    "policy/breaker": ("policy",),
    "policy/context_window": ("policy/test_context_window.py",),
    "policy/error_response": ("policy/test_error_response.py",),
    "policy/failover": ("policy/test_failover.py", "policy/test_rules.py"),
    "policy/fingerprints": ("policy/test_fingerprints.py",),
    "policy/learned": ("policy/test_learned.py",),
    "policy/outcome": ("policy/test_outcome.py", "policy/test_rules.py"),
    "policy/quota": ("policy/test_quota.py",),
    "policy/quota_report": ("policy/test_quota.py",),
    "policy/route": ("policy/test_route.py",),
    "policy/signatures": ("policy/test_signatures.py", "server/test_provenance.py"),
    "policy/spend": ("policy/test_spend.py",),
    "server/attempt": (
        "server/test_attempt.py",
        "server/test_failover_driver.py",
        "server/test_stream.py",
        "server/test_logins.py",
    ),
    "server/failover_driver": (
        "server/test_attempt_log.py",
        "server/test_failover_driver.py",
        "server/test_logins.py",
    ),
    "server/health": ("server/test_breaker_events.py", "server/test_health.py"),
    "server/response": ("server/test_stream.py",),
    "server/stream": ("server/test_stream.py", "server/test_failover_driver.py"),
    "wire/filters": ("wire/test_filters.py", "wire/test_anthropic.py"),
}
"""The tests that judge each module."""

HARMLESS: Final = (
    ("policy/*", r"\b0\.0 → 1\.0$", "no time of a real clock lies in the first second of 1970"),
    ("*", r"('utf-8|'surrogatepass|'replace|'backslashreplace)' → ", "bytes to be hashed"),
    ("*", r"suppress\(.*\) → suppress\(", "a set of exceptions has no order"),
    ("policy/*", r"get\('[a-z-]+', ''\)|: '' → '~'$", "neither word means anything"),
    ("policy/quota", r"-?1e-09|LEAST_RISE - 1e", "against the rounding of decimal fractions"),
    ("policy/quota", r"_time: .*(0|ABSURD)", "the first second of 1970, and one beyond all sense"),
    ("policy/quota_report", r"1000000000\.0 →", "only to sort windows without a length last"),
    ("policy/spend", r"cost: 5000000 →|cost: 0 → 1$", "less than a nano-dollar"),
    ("policy/failover", r"tried \+= 1 → tried -= 1", "only whether it is 0 counts"),
    ("policy/failover", r"failover: False → True", "a cancelled attempt has no outcome to settle"),
    ("policy/failover", r"is_final: 400 → 399", "no answer has the status 399"),
    ("policy/outcome", r"fault_of_status: 400 → 399", "no answer has the status 399"),
    ("policy/outcome", r"classify: 500 → 501", "both are the provider's failure"),
    ("policy/outcome", r"there > now → there >= now", "equal clocks are not described"),
    ("policy/learned", r"(each\.until|until) <= now \+", "two clocks never agree to the moment"),
    ("policy/fingerprints", r"(hash_key: '' →|'surrogateescape' →)", "an unset key, by any name"),
    ("server/attempt", r"_login_fault: self\._context\.began <", "two moments are never the same"),
    ("server/attempt", r"_kind: not error\.kind or", "an empty type is known, too"),
    ("server/attempt", r"secrets: secrets_in|_read_stream: '' →", "neither order nor word shows"),
    ("server/attempt", r"size > MAX_WHOLE →|_read_start: timeouts\.note", "as for a stream"),
    ("server/health", r"0\.0 → 1\.0$|: '' → '~'$", "as for the policy"),
    ("server/health", r"__init__: False → True", "a response saves once more"),
    ("server/stream", r"(begin: 0 → 1|size > MAX_WHOLE →)", "a limit of megabytes, by a byte"),
    ("server/stream", r"next_read: left < self\.idle → left <=", "equal times, by another name"),
    ("server/stream", r"relay: 'idle' →", "after the commit point no timeout is named"),
    ("server/stream", r"__init__: (self\.raw = )?b''", "read after a failure only, which sets it"),
    ("policy/breaker", r"as_last_seen: '' → '~'", "no credential has either as its hash"),
    ("policy/breaker", r"_merge\(models\[name\], of_model\) →", "a view needs no fingerprint"),
    ("policy/breaker", r"began > now → began >= now", "with equal times nothing is corrected"),
    ("policy/breaker", r"when <= now → when < now", "with equal times nothing is corrected"),
)
"""(modules, the change as a regular expression, why no test can or should notice it)."""
