import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ccfallback import __version__
from ccfallback.cli import COMMANDS, manual

PAGE = Path(__file__).parents[2] / "completions" / manual.FILE


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == manual.render(), (
        "run `python -m ccfallback.cli.completions`"
    )


def test_it_is_of_this_version_and_has_every_command() -> None:
    page = manual.render()
    assert f'"ccfallback {__version__}"' in page
    for name in COMMANDS:
        assert f"\n.SS ccfallback {name} " in page


def test_it_can_be_written_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "page.1"
    subprocess.run([sys.executable, "-m", "ccfallback.cli.manual", file], check=True, timeout=30)
    assert file.read_text(encoding="utf-8") == manual.render()


def test_no_text_is_taken_for_a_request() -> None:
    known = {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".nf", ".fi", ".RS", ".RE"}
    lines = manual.render().splitlines()
    assert {line.split()[0] for line in lines if line.startswith(".")} <= known
    assert not [line for line in lines if line.startswith("'")]


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_it_is_set_without_a_warning() -> None:
    ran = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", PAGE], capture_output=True, check=True, timeout=30
    )
    assert ran.stderr == b""
    plain = re.sub(r".\x08|\x1b\[\d+m", "", ran.stdout.decode())
    assert "--api-key-stdin" in plain


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="needs mandoc")
def test_mandoc_has_nothing_to_say_but_that_it_has_no_date() -> None:
    ran = subprocess.run(
        ["mandoc", "-Tlint", PAGE], capture_output=True, check=False, text=True, timeout=30
    )
    assert [line for line in ran.stdout.splitlines() if "missing date" not in line] == []
