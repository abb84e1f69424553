"""How long providers take until the first event of an answer, and the timeouts that follow.

A `Digest` counts the answers of the last day of one provider and model by how long they took, in
buckets that grow by a constant ratio. So its size is bounded, and an answer costs almost nothing.
"""

from collections import Counter
from collections.abc import Mapping
from math import ceil, exp, inf, log
from typing import Any, Final, NamedTuple

from ccfallback.config.model import Provider
from ccfallback.policy.fingerprints import fingerprint

LEAST_ANSWERS: Final = 20
"""Fewer answers than these say nothing about a provider."""

SLOT: Final = 4 * 3600.0
WINDOW: Final = 6
"""How many slots of so many seconds count; the current one is the last of them."""

SHARE: Final = 0.99
FACTOR: Final = 4.0
"""A provider may take so many times as long as nearly all of its answers took."""

SHORTEST: Final = 8.0
"""However quick a provider is, it gets so many seconds until the first event."""

SLOW: Final = 1.5
"""Of how many times the usual duration an answer is unusually slow."""

RAISES: Final = (1.25, 1.5, 2.0)
"""By how much the limit grows each time that it ends an attempt: the provider may be slower now.
Less at first, because a provider that hangs costs the limit again with each probe."""

USUAL_BYTES: Final = 50_000.0
"""A body of this length is read within `SHORTEST`."""

_STEPS: Final = 20.0
"""Buckets for a factor of e: a bucket is 5 % wide."""

_SMALLEST: Final = 0.05
_LARGEST: Final = 3600.0
"""Seconds; what lies beyond is counted as this."""

_FRESH_SECONDS: Final = 30.0
"""How long a limit is valid before it is computed anew."""

_MOST_DIGESTS: Final = 64
"""The client chooses the names of models."""

_SIZE_WEIGHT: Final = 1 / 16
"""How much one body counts in the mean length of bodies."""

Buckets = Counter[int]


class Learned(NamedTuple):
    """What a provider's own answers say about its timeouts."""

    first_byte: float
    """Seconds until the first event, for a body of at most `body_bytes`; infinite if unknown."""
    body_bytes: float
    why: str
    gap: float | None
    """The gap between pings that nearly all of its streams kept to, if that is known."""


class Digest:
    """How long one provider took with one model lately; all times are Unix seconds or durations."""

    __slots__ = (
        "_fresh_until",
        "_is_slow",
        "_learned",
        "_raised",
        "_raised_for",
        "_raises",
        "_usual",
        "changed",
        "gaps",
        "mean_bytes",
        "times",
    )

    def __init__(self) -> None:
        self.times: dict[int, Buckets] = {}
        """By slot: the answers by how long their first event took."""
        self.gaps: dict[int, Buckets] = {}
        """By slot: the streams by their longest gap between two pings."""
        self.mean_bytes = 0.0
        self._raised = 0.0
        """The limit is at least this, for as many further answers as `_raised_for`."""
        self._raised_for = 0
        self._raises = 0
        """How often it was raised."""
        self._learned: Learned | None = None
        self._usual = inf
        """The duration that nearly all answers did not exceed, when that was looked at last."""
        self._is_slow = False
        """Whether the last answer took longer: perhaps the provider has become slower."""
        self._fresh_until = 0.0
        self.changed = False
        """Whether it has changed since it was saved."""

    def note_answer(self, seconds: float, body_bytes: int, now: float) -> None:
        """Count an answer whose first event came after so many seconds."""
        # An answer that is still quick shows nothing: a hang right after it would cost much.
        self._is_slow = seconds > max(SLOW * self._usual, SHORTEST / 2)
        _count(self.times, seconds, now)
        self.mean_bytes += (body_bytes - self.mean_bytes) * (
            _SIZE_WEIGHT if self.mean_bytes else 1.0
        )
        self.changed = True
        if self._learned is None:
            # A limit that is not known yet is looked for with each answer.
            self._fresh_until = 0.0
        if self._raised_for:
            self._raised_for -= 1
            self._fresh_until = self._fresh_until if self._raised_for else 0.0

    def note_gap(self, seconds: float, now: float) -> None:
        """Count a stream by its longest gap between two pings."""
        _count(self.gaps, seconds, now)
        self.changed = True

    def note_late(self, seconds: float) -> None:
        """Note that a limit of so many seconds has ended an attempt.

        Perhaps the provider has become slower: the next attempt gets more time. Once as many
        answers have come as a limit needs, their times decide again.
        """
        if not self._raised_for:
            self._raised, self._raises = 0.0, 0
        elif seconds < self._raised:
            # It began before another attempt has raised the limit.
            return
        self._raised = RAISES[min(self._raises, len(RAISES) - 1)] * seconds
        self._raises += 1
        self._raised_for = LEAST_ANSWERS
        self._fresh_until = 0.0
        self.changed = True

    def learned(self, now: float) -> Learned | None:
        """What the answers say; `None` if there were too few.

        After one that took unusually long, the next attempt has no limit of its own.
        """
        if not now < self._fresh_until <= now + _FRESH_SECONDS:
            self._fresh_until = now + _FRESH_SECONDS
            self._learned = self._learn(now)
        if self._is_slow and self._learned is not None:
            return self._learned._replace(first_byte=inf)
        return self._learned

    def _learn(self, now: float) -> Learned | None:
        usual, answers = _quantile(self.times, now)
        gap = _quantile(self.gaps, now)[0]
        self._usual = inf if usual is None else usual
        if usual is None:
            return None if gap is None else Learned(inf, 0.0, "", gap)
        seconds, because = FACTOR * usual, f"its p99 of {usual:.1f} s over {answers} answers"
        why = f"{FACTOR:g} \N{MULTIPLICATION SIGN} {because}"
        if self._raised_for and self._raised > max(seconds, SHORTEST):
            seconds, why = self._raised, f"raised after a timeout, from {why}"
        if seconds < SHORTEST:
            seconds, why = SHORTEST, f"the shortest limit, for {because}"
        return Learned(seconds, max(self.mean_bytes, USUAL_BYTES), why, gap)

    def to_json(self, now: float) -> dict[str, Any]:
        """What the state file holds of it."""
        return {
            "times": _to_json(self.times, now),
            "gaps": _to_json(self.gaps, now),
            "meanBytes": round(self.mean_bytes),
            "raised": [self._raised, self._raised_for, self._raises],
        }

    @classmethod
    def from_json(cls, value: Any) -> "Digest":
        """The digest that `to_json` has written. Raises `ValueError` or `TypeError`."""
        digest = cls()
        digest.times, digest.gaps = _from_json(value["times"]), _from_json(value["gaps"])
        digest.mean_bytes = min(max(float(value["meanBytes"]), 0.0), 1e9)
        raised, left, raises = value["raised"]
        digest._raised = min(max(float(raised), 0.0), _LARGEST)
        digest._raised_for = min(max(int(left), 0), LEAST_ANSWERS)
        digest._raises = max(int(raises), 0)
        return digest


class Latencies:
    """The digests of all providers and models.

    They are kept by fingerprint, so what is about another server, key or model does not count.
    """

    def __init__(self) -> None:
        self.digests: dict[str, Digest] = {}
        self._by_name: dict[tuple[str, int, str], tuple[Provider, Digest]] = {}

    def find(self, provider: Provider, model: str) -> Digest:
        """The digest of a provider and a model, by the client's name for it."""
        name = (provider.name, provider.key.number, model)
        found = self._by_name.get(name)
        if found is not None and found[0] is provider:
            return found[1]
        if len(self._by_name) >= _MOST_DIGESTS:
            self._by_name.clear()
        about = fingerprint(provider, model)
        digest = self.digests.pop(about, None) or Digest()
        # The one that was looked for last is at the end.
        self.digests[about] = digest
        if len(self.digests) > _MOST_DIGESTS:
            del self.digests[next(iter(self.digests))]
        self._by_name[name] = provider, digest
        return digest

    def take_changed(self, now: float) -> dict[str, dict[str, Any]]:
        """What has to be saved: the digests that changed since the last call, as JSON."""
        changed = {about: each for about, each in self.digests.items() if each.changed}
        for digest in changed.values():
            digest.changed = False
        return {about: digest.to_json(now) for about, digest in changed.items()}


def _count(slots: dict[int, Buckets], seconds: float, now: float) -> None:
    slot = int(now / SLOT)
    buckets = slots.get(slot)
    if buckets is None:
        for old in [each for each in slots if not slot - WINDOW < each <= slot]:
            del slots[old]
        buckets = slots[slot] = Counter()
    buckets[int(log(min(max(seconds, _SMALLEST), _LARGEST)) * _STEPS // 1)] += 1


def _quantile(slots: Mapping[int, Buckets], now: float) -> tuple[float | None, int]:
    """The duration that `SHARE` of those in the window do not exceed, and how many there are.

    It is rounded up to the end of a bucket. `None` if there are too few.
    """
    slot = int(now / SLOT)
    total: Buckets = Counter()
    for each, buckets in slots.items():
        if slot - WINDOW < each <= slot:
            total.update(buckets)
    count = total.total()
    if count < LEAST_ANSWERS:
        return None, count
    above = count - ceil(SHARE * count)
    bucket = 0
    for bucket in sorted(total, reverse=True):
        above -= total[bucket]
        if above < 0:
            break
    return exp((bucket + 1) / _STEPS), count


def _to_json(slots: Mapping[int, Buckets], now: float) -> dict[str, dict[str, int]]:
    slot = int(now / SLOT)
    return {
        str(each): {str(bucket): count for bucket, count in buckets.items()}
        for each, buckets in slots.items()
        if slot - WINDOW < each <= slot
    }


def _from_json(value: Any) -> dict[int, Buckets]:
    slots: dict[int, Buckets] = {}
    lowest, highest = (round(log(end) * _STEPS) for end in (_SMALLEST, _LARGEST))
    for slot, buckets in list(value.items())[-WINDOW:]:
        counts = {int(bucket): int(count) for bucket, count in buckets.items()}
        if any(not lowest - 1 <= each <= highest or n < 1 for each, n in counts.items()):
            raise ValueError("a bucket out of range")
        slots[int(slot)] = Counter(counts)
    return slots
