"""The file of signature origins."""

from pathlib import Path

import pytest

from ccfallback.policy.signatures import MOST_SAVED
from ccfallback.state import signatures_file


def test_saved_signatures_are_read_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "signers.json"
    assert signatures_file.read(path) == {}
    signatures_file.write(path, {"aa": "one"})
    signatures_file.write(path, {"bb": "two"})
    assert signatures_file.read(path) == {"aa": "one", "bb": "two"}
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("data", [b"", b"[1]", b'{"signers": 3}', b"\xff", b'{"signers":{"a":1}}'])
def test_an_unreadable_signatures_file_counts_as_empty(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "signers.json"
    path.write_bytes(data)
    assert signatures_file.read(path) == {}


def test_the_signatures_file_keeps_only_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "signers.json"
    signatures_file.write(path, {f"old{number}": "a" for number in range(MOST_SAVED)})
    signatures_file.write(path, {"old7": "b", "new": "b"})
    known = signatures_file.read(path)
    assert len(known) == MOST_SAVED
    assert (known["old7"], known["new"]) == ("b", "b")
    assert "old0" not in known
