"""What of a body a provider gets.

The primary gets the client's own bytes. A fallback gets no name that leads back to the user: the
user id becomes a pseudonym, the same every time, and the billing line stays behind.
"""

from hashlib import sha256
from typing import Any, Final, Protocol

from ccfallback import wire
from ccfallback.config.model import Privacy, Provider
from ccfallback.messages.body import Body
from ccfallback.messages.thinking import (
    is_own,
    is_own_or_unsigned,
    without_own_thinking,
    without_thinking,
)

LEAST_BUDGET: Final = 1024
"""The API takes no smaller budget of thinking, and wants it below `max_tokens`."""

BILLING_MARK: Final = "x-anthropic-billing-header:"


class Signers(Protocol):
    """Which provider signed which thinking; see `policy.signatures.SignatureOrigins`."""

    def signer(self, signature: str) -> str | None:
        """The name of the provider that signed it; `None` if that is not known."""

    def knows_others_than(self, provider: str) -> bool:
        """Whether any other provider is known to have signed anything."""


def body_for(
    provider: Provider, body: Body, privacy: Privacy, signers: Signers | None = None
) -> Body:
    """The client's body as `provider` may see it; the very same one if nothing has to change."""
    if wire.FORMATS[provider.format].speaks_messages:
        # For every request, and always in the same way: a signature covers what stands before it.
        body = without_foreign_thinking(body, provider, signers)
    model = provider.model_for(body.model)
    if model != body.model:
        body = body.with_members(model=model)
    if provider.primary:
        return body
    # A member that stands twice is read once; what was not read must not slip through.
    body = with_pseudonym(body.respelled(), provider.name)
    if privacy.strip_billing_header:
        body = without_billing(body)
    most = provider.quirks.max_output_tokens
    return body if most is None else with_at_most(body, most)


def without_foreign_thinking(body: Body, provider: Provider, signers: Signers | None) -> Body:
    """A body without the thinking that `provider` would refuse.

    That is thinking with this proxy's mark or another provider's signature, and for the primary
    also unsigned thinking. A signature of unknown origin stays: it is Anthropic's.
    """
    if signers is None or not signers.knows_others_than(provider.name):
        return without_own_thinking(body, unsigned=provider.primary)
    known = signers
    is_never_theirs = is_own_or_unsigned if provider.primary else is_own

    def is_foreign(signature: object) -> bool:
        if is_never_theirs(signature):
            return True
        signer = known.signer(signature) if isinstance(signature, str) else None
        return signer is not None and signer != provider.name

    return without_thinking(body, is_foreign)


def with_at_most(body: Body, tokens: int) -> Body:
    """A body that asks for no more tokens than a provider gives, thinking included."""
    wanted = body.get("max_tokens")
    if not isinstance(wanted, int) or wanted <= tokens:
        return body
    thinking = body.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if not isinstance(budget, int) or budget < tokens:
        return body.with_members(max_tokens=tokens)
    if tokens <= LEAST_BUDGET:
        return body.without("thinking").with_members(max_tokens=tokens)
    return body.with_members(max_tokens=tokens, thinking={**thinking, "budget_tokens": tokens - 1})


def with_pseudonym(body: Body, provider: str) -> Body:
    """A body whose `metadata.user_id` says nothing, but the same nothing for the same user.

    Each provider gets another pseudonym, so that two of them can't compare notes.
    """
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        # Nothing there, or nothing that can be read: who knows whose name is in it.
        return body.without("metadata")
    if "user_id" not in metadata:
        return body
    digest = sha256(f"{provider}\n{metadata['user_id']}".encode())
    return body.with_members(metadata={**metadata, "user_id": f"user_{digest.hexdigest()[:32]}"})


def without_billing(body: Body) -> Body:
    """A body without the billing line in its system prompt, which other providers refuse."""
    system = body.get("system")
    if isinstance(system, list):
        kept = [block for block in system if not _is_billing(block)]
        if len(kept) == len(system):
            return body
        return body.with_members(system=kept) if kept else body.without("system")
    if isinstance(system, str) and system.startswith(BILLING_MARK):
        rest = system.partition("\n")[2].lstrip("\n")
        return body.with_members(system=rest) if rest else body.without("system")
    return body


def _is_billing(block: Any) -> bool:
    text = block.get("text") if isinstance(block, dict) else None
    return isinstance(text, str) and text.lstrip().startswith(BILLING_MARK)
