"""The story of one request, as a value: candidates in the order of their turns, and the end.

`core.explain` makes it of the log's records. Moments are Unix milliseconds, lengths are seconds.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Standing(StrEnum):
    """What became of a candidate."""

    ANSWERED = "answered"
    HANDED_ON = "handed on"
    """Its refusal went to the client as it came."""
    FAILED = "failed"
    BROKE_OFF = "broke off"
    """After the answer had begun."""
    PASSED_BY = "passed by"
    NOT_NEEDED = "not needed"
    LEFT_OUT = "left out"
    UNDER_WAY = "under way"
    """Nothing in the log says how it ended."""


@dataclass(slots=True)
class Difference:
    """What another request a repair made of it: names and counts."""

    removed: list[str] = field(default_factory=list)
    """Members of the body, as `added` and `rewritten` are."""
    added: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    betas: list[str] = field(default_factory=list)
    """Flags of `anthropic-beta` that went."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many more or fewer messages of a role, or blocks of a kind, there are."""
    renamed: int = 0
    """Tools that have other names."""
    quirks: list[str] = field(default_factory=list)
    """Switches of the provider's format that are set otherwise."""
    words: str = ""
    """All of it, for a person; empty where the log does not say."""


@dataclass(slots=True)
class Repair:
    """What a rectifier did about a refusal."""

    rectifier: str
    changed: str
    refusal: str
    applied: bool = False
    """Whether the provider took the repaired request."""
    difference: Difference = field(default_factory=Difference)


@dataclass(slots=True)
class Attempt:
    """One request to an upstream, and what came of it."""

    number: int
    reason: str
    """Why it was made: `first`, `failover`, `retry`, `rectified`, `safety-valve`, …"""
    began: int | None = None
    seconds: float | None = None
    """To the first content of a stream, to the end of anything else."""
    ok: bool | None = None
    status: int | None = None
    fault: str = ""
    result: str = ""
    """What it came to, in a few words."""
    said: str = ""
    """The upstream's own words."""
    timeout: str = ""
    """The timeout that fired, and its length in seconds."""
    timeout_seconds: float | None = None
    reset_at: int | None = None
    """When the upstream said that it will be back, and where it said so."""
    reset_hint: str = ""
    prevented: list[str] = field(default_factory=list)
    """Repairs of which it was known beforehand that this provider needs them."""
    repair: Repair | None = None
    """What was done about its refusal."""


@dataclass(slots=True)
class Cooldown:
    """A time for which a provider is not asked."""

    until: int | None
    seconds: float | None = None
    """How long it was when it began."""
    since: int | None = None
    model: str = ""
    """The one model that it is about; all where there is none."""
    failures: int = 0
    reason: str = ""
    reset_hint: str = ""
    last_failure: int | None = None
    probe: bool = False
    """It was over already, and another request was trying the provider."""


@dataclass(slots=True)
class Candidate:
    """A provider, as often as its turn came."""

    provider: str
    standing: Standing
    host: str = ""
    model: str = ""
    """The model by the provider's own name."""
    why: str = ""
    """Why it was left out: `disabled` or `header`."""
    held: Cooldown | None = None
    """The cooldown for which it was passed by."""
    set: Cooldown | None = None
    """The cooldown that this request brought on."""
    recovered: bool = False
    """Whether this request ended its cooldown."""
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(slots=True)
class Explanation:
    """The whole story of one request."""

    id: str
    began: int | None = None
    model: str = ""
    stream: bool | None = None
    bytes: int | None = None
    candidates: list[Candidate] = field(default_factory=list)
    provider: str | None = None
    """Whose answer the client got."""
    status: int | None = None
    seconds: float | None = None
    ttft: float | None = None
    attempts: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    client_saw: str = ""
    complete: bool = False
    """Whether the client got a whole answer."""
    unknown: list[str] = field(default_factory=list)
    """What the log can't say."""
