"""Who signed which thinking.

A provider refuses thinking that another one signed. Only hashes of signatures are kept, a bounded
number of them, so that a foreign block is taken out before a request is sent rather than after
it was refused; and always, because signed thinking is bound to what stands before it.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

MOST: Final = 8192
"""Signatures remembered, the latest."""

MOST_SAVED: Final = 2048
"""Signatures of fallbacks that outlive a restart."""


class SignatureOrigins:
    """Signatures by whom they came from."""

    def __init__(self) -> None:
        self._signers: OrderedDict[str, str] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._primary = ""
        self.changed = False
        """Whether there is something to save."""

    def note(self, signatures: Iterable[str], provider: str, *, primary: bool) -> None:
        """Remember that a provider signed these."""
        if primary:
            self._primary = provider
        for signature in signatures:
            digest = _digest(signature)
            if not primary and digest not in self._signers:
                self.changed = True
            self._put(digest, provider)
        while len(self._signers) > MOST:
            _, oldest = self._signers.popitem(last=False)
            self._counts[oldest] -= 1

    def signer(self, signature: str) -> str | None:
        """Who signed it; `None` where that is not known."""
        return self._signers.get(_digest(signature))

    def knows_others_than(self, provider: str) -> bool:
        """Whether somebody else has signed anything: otherwise nobody need be looked up."""
        return len(self._signers) > self._counts[provider]

    def saved(self) -> Mapping[str, str]:
        """What is worth keeping over a restart: whatever is not known is Anthropic's anyway."""
        kept = [(d, name) for d, name in self._signers.items() if name != self._primary]
        return dict(kept[-MOST_SAVED:])

    def load(self, saved: Mapping[str, str]) -> None:
        """Take over what was saved."""
        known, self._signers, self._counts = self._signers, OrderedDict(), Counter()
        for digest, provider in {**saved, **known}.items():
            self._put(digest, provider)

    def _put(self, digest: str, provider: str) -> None:
        before = self._signers.pop(digest, None)
        if before is not None:
            self._counts[before] -= 1
        self._signers[digest] = provider
        self._counts[provider] += 1


def _digest(signature: str) -> str:
    return blake2b(signature.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
