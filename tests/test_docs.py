"""The README tells of everything that there is."""

from pathlib import Path

import pytest

from ccfallback import __version__
from ccfallback.cli import COMMANDS
from ccfallback.core.quirks import Quirks
from ccfallback.rectify import RECTIFIERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", Quirks.__dataclass_fields__)
def test_every_quirk_is_there(name: str) -> None:
    assert f"| `{name}` |" in README


@pytest.mark.parametrize("name", [rectifier.name for rectifier in RECTIFIERS])
def test_every_repair_is_there(name: str) -> None:
    assert f"`{name}`" in README.split("### Repairs")[1].split("## HTTP")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there(name: str) -> None:
    assert f"| `{name}" in README


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
