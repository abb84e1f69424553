"""The hashes by which breakers know credentials. They reveal nothing of them."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b

from ccfallback.config.model import KeySource


@lru_cache(1024)
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
