"""The ledger of signatures on disk: hashes and names of providers, nothing else."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ccfallback import files
from ccfallback.policy.signatures import MOST_SAVED

NAME = "signers.json"


def path_beside(state: Path) -> Path:
    """Where the ledger is: beside the state file."""
    return state.with_name(NAME)


def read(path: Path) -> Mapping[str, str]:
    """What was saved; empty where there is nothing that can be read."""
    try:
        document = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    signers = document.get("signers") if isinstance(document, dict) else None
    if not isinstance(signers, dict):
        return {}
    return {key: name for key, name in signers.items() if isinstance(name, str)}


def write(path: Path, signers: Mapping[str, str], *, patience: float = 10.0) -> None:
    """Save it, together with what another server has saved meanwhile.

    Raises `OSError`, or `Busy` when its lock can't be had in `patience` seconds.
    """
    with files.locked(path, patience):
        known = {name: by for name, by in read(path).items() if name not in signers}
        kept = [*known.items(), *signers.items()][-MOST_SAVED:]
        document = {"version": 1, "signers": dict(kept)}
        files.replace_atomically(path, msgspec.json.encode(document))
