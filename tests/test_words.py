"""Counts with their nouns, and what a mistyped name was meant to be."""

import subprocess
import sys

from ccfallback.words import closest, did_you_mean, pluralize

KNOWN = ("openrouter", "deepseek", "kimi")


def test_the_most_similar_name_is_suggested() -> None:
    assert closest("opnrouter", KNOWN) == "openrouter"
    assert closest("deepsek", iter(KNOWN)) == "deepseek"


def test_a_part_of_a_name_means_the_name() -> None:
    assert closest("url", ["auth_header", "base_url"]) == "base_url"
    assert closest("", ["auth_header", "base_url"]) is None


def test_a_hint_names_the_most_similar_name() -> None:
    assert did_you_mean("opnrouter", KNOWN) == "did you mean openrouter?"
    assert did_you_mean("zzz", KNOWN) == ""


def test_a_count_agrees_with_its_noun() -> None:
    assert pluralize(1, "request") == "1 request"
    assert pluralize(1204, "request") == "1,204 requests"


def test_no_name_is_suggested_if_none_is_similar() -> None:
    assert closest("zzz", KNOWN) is None
    assert closest("kimi", ()) is None


def test_the_caller_sets_how_similar_a_name_must_be() -> None:
    assert closest("kimono", ["kimi"], alike=0.9) is None
    assert closest("kimono", ["kimi"], alike=0.5) == "kimi"


def test_the_server_does_not_load_the_library_that_compares() -> None:
    loaded = "import sys, ccfallback.server.serve; sys.exit('difflib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loaded], check=False, timeout=60).returncode == 0
