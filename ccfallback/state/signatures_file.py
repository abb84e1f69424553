"""The file that keeps signature origins across a restart: hashes and provider names only."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ccfallback import files
from ccfallback.policy.signatures import MOST_SAVED


def read(path: Path) -> Mapping[str, str]:
    """The saved providers by hash; empty if the file is missing or unreadable."""
    try:
        document = msgspec.json.decode(files.read_regular(path))
    except (OSError, ValueError, RecursionError):
        return {}
    signers = document.get("signers") if isinstance(document, dict) else None
    if not isinstance(signers, dict):
        return {}
    return {key: name for key, name in signers.items() if isinstance(name, str)}


def write(path: Path, signers: Mapping[str, str], *, patience: float = 10.0) -> None:
    """Save the origins, together with those that another server has saved since.

    Raises `OSError`, or `Busy` if the file is still locked after `patience` seconds.
    """
    with files.locked(path, patience):
        others = {digest: name for digest, name in read(path).items() if digest not in signers}
        latest = [*others.items(), *signers.items()][-MOST_SAVED:]
        document = {"version": 1, "signers": dict(latest)}
        files.replace_atomically(path, msgspec.json.encode(document))
