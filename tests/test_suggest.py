"""What a mistyped name was meant to be."""

import subprocess
import sys

from ccfallback.suggest import closest

KNOWN = ("openrouter", "deepseek", "kimi")


def test_the_most_alike_name_is_meant() -> None:
    assert closest("opnrouter", KNOWN) == "openrouter"
    assert closest("deepsek", iter(KNOWN)) == "deepseek"


def test_nothing_is_meant_by_what_is_like_nothing() -> None:
    assert closest("zzz", KNOWN) is None
    assert closest("kimi", ()) is None


def test_how_much_alike_is_the_callers_to_say() -> None:
    assert closest("kimono", ["kimi"], alike=0.9) is None
    assert closest("kimono", ["kimi"], alike=0.5) == "kimi"


def test_the_server_does_without_the_library_that_compares() -> None:
    loaded = "import sys, ccfallback.server.serve; sys.exit('difflib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False, timeout=60).returncode == 0
