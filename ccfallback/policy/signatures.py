"""Which provider signed which thinking.

A provider refuses thinking that another provider signed. Knowing the signer, the proxy removes a
foreign block before it sends the request, instead of after the refusal; and it does so in every
request, because signed thinking is bound to what precedes it. Only hashes of signatures are kept.
Claude's signatures are valid on every platform that serves Claude, so those are not foreign there,
until such a platform refuses one.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from ccfallback.messages.thinking import signature_digest

MOST: Final = 8192
"""The number of signatures remembered: the latest."""

RULE: Final = "foreign_signatures"
"""The name of the rejection that a platform's refusal of foreign thinking teaches."""

LESSON: Final = "thinking that another provider signed"

MOST_SAVED: Final = 2048
"""The number of fallbacks' signatures that survive a restart."""


class SignatureOrigins:
    """The provider that made each signature, by the signature's hash."""

    def __init__(self) -> None:
        self._signers: OrderedDict[str, str] = OrderedDict()
        self._counts: Counter[str] = Counter()
        self._primary = ""
        self._sharing: set[str] = set()
        self._apart: set[str] = set()
        self.changed = False
        """Whether there is something to save."""

    def remember(
        self, digests: Iterable[str], provider: str, *, primary: bool, shared: bool = False
    ) -> None:
        """Remember that a provider made the signatures with these digests.

        Those that are `shared` are Claude's.
        """
        if primary:
            self._primary = provider
        if shared:
            self._sharing.add(provider)
        for digest in digests:
            if not (primary or shared) and digest not in self._signers:
                self.changed = True
            self._put(digest, provider)
        while len(self._signers) > MOST:
            _, oldest = self._signers.popitem(last=False)
            self._counts[oldest] -= 1

    def signer(self, signature: str) -> str | None:
        """The provider that made a signature, if it is known."""
        return self._signers.get(signature_digest(signature))

    def is_shared(self, signer: str, provider: str) -> bool:
        """Whether a provider that reads Claude's signatures reads those of this signer."""
        return signer in self._sharing and not self._apart & {signer, provider}

    def separate(self, provider: str, *, apart: bool = True) -> None:
        """Note whether a provider gets its own signatures only: it has refused another one's."""
        (self._apart.add if apart else self._apart.discard)(provider)

    def is_apart(self, provider: str) -> bool:
        """Whether a provider gets its own signatures only."""
        return provider in self._apart

    def knows_others_than(self, provider: str) -> bool:
        """Whether another provider may have signed anything; if not, no lookup is needed."""
        return provider in self._apart or len(self._signers) > self._counts.get(provider, 0)

    def to_save(self) -> Mapping[str, str]:
        """The part that must survive a restart; unknown signatures count as Claude's."""
        claudes = {self._primary, *self._sharing - self._apart}
        others = [(d, name) for d, name in self._signers.items() if name not in claudes]
        return dict(others[-MOST_SAVED:])

    def load(self, saved: Mapping[str, str]) -> None:
        """Add what an earlier process saved, as older than what this one has seen."""
        seen, self._signers, self._counts = self._signers, OrderedDict(), Counter()
        for digest, provider in {**saved, **seen}.items():
            self._put(digest, provider)

    def _put(self, digest: str, provider: str) -> None:
        before = self._signers.pop(digest, None)
        if before is not None:
            self._counts[before] -= 1
        self._signers[digest] = provider
        self._counts[provider] += 1
