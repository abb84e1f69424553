"""A draft is there until it is not needed, or was overtaken."""

import os
from pathlib import Path

from ccfallback.config.draft_file import DraftFile


def test_it_is_kept_until_it_is_dropped(tmp_path: Path) -> None:
    draft = DraftFile(tmp_path / "config.toml")
    assert draft.read() is None
    draft.keep("a = ü")
    assert draft.read() == "a = ü"
    draft.drop()
    draft.drop()
    assert draft.read() is None


def test_one_that_is_older_than_the_configuration_is_none(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    draft = DraftFile(config)
    draft.keep("old")
    config.write_text("new")
    os.utime(draft.path, ns=(1, 1))
    assert draft.read() is None
    os.utime(config, ns=(1, 1))
    assert draft.read() == "old"
