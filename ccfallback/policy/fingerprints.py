"""The hashes by which the state knows servers, accounts, models and credentials.

The state file keeps facts by the provider's name, but a failure or a learned rejection belongs to
the server, the account and the model behind that name. A fact carries the fingerprint of these, and
counts only as long as the configuration still has the same one. What concerns one credential is
kept by the hash of that. No hash reveals anything.
"""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from ccfallback.config.model import Aws, Google, KeySource, Provider
from ccfallback.short_cache import short_cache

_FINGERPRINTS: Final = 1024
"""Hashes kept: one for each provider, model and credential that is in use."""

_NO_ACCOUNT: Final = ("key", Aws(), Google(), None)


def fingerprint(provider: Provider, model: str | None = None) -> str:
    """The hash of a provider's base URL, format and source of its credential; with the name that
    the client gives to a model, also of the provider's own name for that model.

    It reveals none of these. Retries, timeouts and other settings do not change it. It is the same
    with each of several keys: what they share, such as a learned rejection, is about all of them.
    """
    mapped = None if model is None else provider.model_for(model)
    # Only where it differs from the default, so that older fingerprints stay valid.
    account = (provider.auth, provider.aws, provider.google, provider.platform_name)
    return _fingerprint(
        provider.base_url,
        provider.format,
        provider.auth_header.lower(),
        provider.key.whole or provider.key,
        mapped,
        () if account == _NO_ACCOUNT else account,
    )


@lru_cache(_FINGERPRINTS)
def _fingerprint(
    base_url: str,
    format_name: str,
    auth_header: str,
    key: KeySource,
    model: str | None,
    account: tuple[object, ...],
) -> str:
    literal = None if key.literal is None else key.literal.reveal()
    parts = (base_url.rstrip("/"), format_name, auth_header, literal, key.env, key.command, model)
    literals = () if key.literals is None else tuple(each.reveal() for each in key.literals)
    text = repr((*parts, *account, *literals)).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=8).hexdigest()


@short_cache(_FINGERPRINTS)
def hash_text(credential: bytes) -> str:
    """The hash of a credential."""
    return blake2b(credential, digest_size=8, person=b"ccfallback").hexdigest()


def hash_key(source: KeySource, environ: Mapping[str, str]) -> str:
    """The hash of a single key, which the configuration or a variable holds."""
    if source.literal is not None:
        key = source.literal.reveal()
    else:
        key = environ.get(source.env, "") if isinstance(source.env, str) else ""
    return hash_text(key.encode("utf-8", "surrogateescape"))


def hash_keys(source: KeySource, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The hash of each of several keys, in their order; none for an only key."""
    return tuple(hash_key(key, environ) for key in source.each if key.number)
