"""The logins that the primary has refused, in the state: hashes, and when the client knew of it."""

from typing import Any, Final

from ccfallback.policy.fingerprints import hash_text
from ccfallback.state.sections import Section


def _parse(raw: Any) -> float:
    return float(raw) / 1000


def _encode(at: float) -> int:
    return round(at * 1000)


LOGINS: Final = Section("logins", _parse, _encode, most=256)
"""An entry is a time in Unix seconds; 0 if the login was accepted since."""


def token_key(token: bytes) -> str:
    """The name of a token's entry."""
    return hash_text(token)


def session_key(session: str) -> str:
    """The name of the entry of a session: any of its tokens was refused."""
    return f"session {session}"
