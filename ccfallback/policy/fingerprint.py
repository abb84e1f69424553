"""What a fact about a provider is about.

The state file keeps facts by the provider's name, but a failure or a learned rejection belongs to
the server, the account and the model behind that name. A fact carries the fingerprint of these, and
counts only as long as the configuration still has the same one.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Final

from ccfallback.config.model import KeySource, Provider

_KEPT: Final = 1024
"""Fingerprints kept: one for each provider and model that is in use."""


def fingerprint(provider: Provider, model: str | None = None) -> str:
    """The hash of a provider's base URL, format and key source; with the name that the client
    gives to a model, also of the provider's own name for that model.

    It reveals none of these. Retries, timeouts and other settings do not change it.
    """
    mapped = None if model is None else provider.model_for(model)
    return _fingerprint(
        provider.base_url, provider.format, provider.auth_header.lower(), provider.key, mapped
    )


@lru_cache(_KEPT)
def _fingerprint(
    base_url: str, format_name: str, auth_header: str, key: KeySource, model: str | None
) -> str:
    literal = None if key.literal is None else key.literal.reveal()
    parts = (base_url.rstrip("/"), format_name, auth_header, literal, key.env, key.command, model)
    text = repr(parts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8).hexdigest()
