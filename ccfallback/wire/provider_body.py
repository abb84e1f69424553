"""Makes the body for one provider out of the client's.

The model gets the provider's own name for it, and thinking that the provider would refuse is
removed. Nothing else changes for the primary. A fallback gets nothing that identifies the user
(the user id becomes a pseudonym, always the same one, and the attribution line is removed) and no
higher `max_tokens` than it takes.
"""

from hashlib import sha256
from typing import Protocol

from ccfallback.config.model import Privacy, Provider
from ccfallback.messages.body import Body
from ccfallback.messages.effort import with_at_most
from ccfallback.messages.system import without_billing
from ccfallback.messages.thinking import (
    is_own,
    is_own_or_unsigned,
    may_have_thinking,
    without_own_thinking,
    without_thinking,
)
from ccfallback.wire import FORMATS


class Signers(Protocol):
    """Which provider signed which thinking; see `policy.signatures.SignatureOrigins`."""

    def signer(self, signature: str) -> str | None:
        """The name of the provider that signed it; `None` if that is not known."""

    def is_apart(self, provider: str) -> bool:
        """Whether a provider gets its own signatures only, because it refuses all others."""

    def is_shared(self, signer: str, provider: str) -> bool:
        """Whether a provider that reads Claude's signatures reads those of this signer."""

    def knows_others_than(self, provider: str) -> bool:
        """Whether any other provider is known to have signed anything."""


def adapt_body(
    provider: Provider, body: Body, privacy: Privacy, signers: Signers | None = None
) -> Body:
    """The client's body as `provider` may see it; the very same one if nothing has to change."""
    if may_have_thinking(body) and FORMATS[provider.format].speaks_messages:
        # For every request, and always in the same way: a signature covers what stands before it.
        body = without_foreign_thinking(body, provider, signers)
    model = provider.model_for(body.model)
    if model != body.model:
        body = body.with_members(model=model)
    if provider.primary:
        return body
    # Of a member that is there twice only one was read; the other must not get through.
    body = with_pseudonym(body.respell(), provider.name)
    if privacy.strip_billing_header:
        body = without_billing(body)
    most = provider.quirks.max_output_tokens
    return body if most is None else with_at_most(body, most)


def without_foreign_thinking(body: Body, provider: Provider, signers: Signers | None) -> Body:
    """A body without the thinking that `provider` would refuse.

    That is thinking with this proxy's mark or another provider's signature, unless Claude made it
    and the provider serves Claude; and for the primary also unsigned thinking. A signature of
    unknown origin is Anthropic's: it stays, unless the provider refuses those.
    """
    if signers is None or not signers.knows_others_than(provider.name):
        return without_own_thinking(body, unsigned=provider.primary)
    known, reads_claude = signers, provider.shares_signatures
    is_apart = reads_claude and not provider.primary and signers.is_apart(provider.name)
    is_never_theirs = is_own_or_unsigned if provider.primary else is_own

    def is_foreign(signature: object) -> bool:
        if is_never_theirs(signature):
            return True
        signer = known.signer(signature) if isinstance(signature, str) else None
        if signer is None:
            return is_apart
        if signer == provider.name:
            return False
        return not (reads_claude and known.is_shared(signer, provider.name))

    return without_thinking(body, is_foreign)


def with_pseudonym(body: Body, provider: str) -> Body:
    """The body with a pseudonym for `metadata.user_id`, always the same one for a user.

    Each provider gets another pseudonym, so that two providers cannot match their users.
    """
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        # Metadata of another shape may hold the id anywhere.
        return body.without("metadata")
    if "user_id" not in metadata:
        return body
    digest = sha256(f"{provider}\n{metadata['user_id']}".encode())
    return body.with_members(metadata={**metadata, "user_id": f"user_{digest.hexdigest()[:32]}"})
