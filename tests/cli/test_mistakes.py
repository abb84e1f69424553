"""Mistakes of a user: each gets a sentence that says what is wrong, and changes nothing."""

import sys
from pathlib import Path

import pytest

from ccfallback.paths import Paths
from tests.cli.conftest import Run

ADD = ("providers", "add", "a", "--base-url")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ((*ADD, "http://h.test:99999"), 1, "with a port from 1 to 65535"),
        ((*ADD, "http://h.test:abc"), 1, "with a port from 1 to 65535"),
        ((*ADD, "http://:80/"), 1, "with a host"),
        ((*ADD, "http://a b/"), 1, "without a space in it"),
        ((*ADD, "htp://x"), 1, "an http:// or https:// URL"),
        (("config", "edit"), 1, "there is no terminal for an editor; set EDITOR"),
        (("config", "set", "server.port", "-1"), 2, "write `--` before a value with a minus"),
        (("config", "rollback", "-1"), 2, "write `--` before a value with a minus"),
        (("logs", "tail", "--level", "loud"), 2, "'--level': 'loud' is not one of"),
        (("serve", "--port", "abc"), 2, "'--port': it is not a whole number"),
        (("stats", "--since", "5parsecs"), 2, "is not a duration; try 90s, 5m, 2h or 1d"),
        (("providers", "presets", "nosuch"), 1, "no preset contains nosuch"),
        (
            ("providers", "move", "a", "1"),
            2,
            "Example: ccfallback providers move openrouter --to 1",
        ),
        (("stats", "24h"), 2, "Unexpected: 24h"),
        (("version",), 2, "--version prints the version"),
        (("-v",), 2, "--version prints the version"),
        (("config", "set", "failover.on", "[5xx,429]"), 1, "put it in single quotes"),
        (("stats", "24h"), 2, "Example: ccfallback stats --since 7d"),
        (("logs", "-f"), 2, "Example: ccfallback logs tail -f"),
        (("requests", "-n", "0"), 2, "it has to be at least 1"),
        (("serve", "--port", "70000"), 2, "it has to be at most 65535"),
        (("providers", "add", "x", "--cap-day", "five"), 2, "it is not a number"),
        (("--config", "", "status"), 2, "'--config': the path is empty"),
        (("--log-file", "", "status"), 2, "'--log-file': the path is empty"),
        (("status", "--config", "x"), 2, "it stands before the command: `ccfallback --config PATH"),
        (("config", "set", "server.port=1"), 2, "Missing argument 'VALUE'"),
        (("config", "set", "port", "1"), 1, "there is no key port; did you mean server.port?"),
        (("config", "get", "port"), 1, "there is no key port; did you mean server.port?"),
        (("providers", "add", "openruter"), 2, "did you mean openrouter?"),
    ],
)
def test_what_is_wrong_is_said(
    ccf: Run,
    paths: Paths,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    for name in ("EDITOR", "VISUAL"):
        monkeypatch.delenv(name, raising=False)
    ran = ccf(*command)
    assert ran.code == code
    assert words in ran.err
    assert "Value error" not in ran.err
    assert not paths.config.exists()


def test_an_export_makes_no_folder_and_says_what_it_overwrites(ccf: Run, tmp_path: Path) -> None:
    ran = ccf("config", "export", str(tmp_path / "no" / "such" / "x.json"))
    assert (ran.code, "there is no folder" in ran.err) == (1, True)
    assert not (tmp_path / "no").exists()
    file = str(tmp_path / "x.json")
    assert f"{file} written" in ccf("config", "export", file).err
    assert f"{file} overwritten" in ccf("config", "export", file).err


def test_a_yaml_file_is_probably_litellms(ccf: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model_list:\n  - model_name: x\n")
    assert "`--from litellm`" in ccf("config", "import", str(file)).err


def test_a_log_that_is_a_folder_is_an_error(ccf: Run, tmp_path: Path) -> None:
    ran = ccf("--log-file", str(tmp_path), "logs", "tail")
    assert (ran.code, "is a folder" in ran.err) == (1, True)


def test_a_config_that_is_a_folder_is_an_error(ccf: Run) -> None:
    ran = ccf("--config", ".", "providers", "list")
    assert (ran.code, "it is a folder" in ran.err) == (1, True), ran.err


def test_minutes_may_be_written_as_people_do(ccf: Run) -> None:
    for text in ("5min", "1h30min", "1w"):
        assert ccf("stats", "--since", text, "--json").code == 0


def test_a_word_chooses_presets(ccf: Run) -> None:
    names = [
        each["name"] for each in ccf("providers", "presets", "VERTEX", "--json").json["presets"]
    ]
    assert "vertex" in names
    assert len(names) < 5


def test_colour_may_be_forced_in_a_pipe(ccf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ccf("breaker", "status").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    painted = ccf("breaker", "status").out
    assert "\x1b[32mready\x1b[0m" in painted
    assert "\x1b" not in plain
    for code in ("1", "32"):
        painted = painted.replace(f"\x1b[{code}m", "")
    assert painted.replace("\x1b[0m", "") == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in ccf("breaker", "status").out


def test_a_message_does_not_obey_what_it_quotes(ccf: Run) -> None:
    ran = ccf("config", "get", "\x1b[31mserver.prot\x07")
    assert ran.code == 1
    assert not set(ran.err) & {"\x1b", "\x07"}
    assert "server.prot" in ran.err


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal as POSIX has it")
def test_a_run_without_a_fallback_says_so_to_a_person(ccf: Run) -> None:
    from tests.cli.terminal import PATIENCE, started, terminal

    for has_fallback in (False, True):
        with terminal() as tty, started(tty, "run", "--", "echo", "done") as process:
            tty.wait_for(lambda shown: "done" in shown)
            assert process.wait(PATIENCE) == 0
            assert ("no fallback yet" in tty.shown) is not has_fallback
        ccf("providers", "add", "a", "--base-url", "http://a.test")
    assert "no fallback yet" not in ccf("run", "--", "true").err


def test_the_first_column_of_the_chain_is_never_empty(ccf: Run) -> None:
    ccf("providers", "add", "a", "--base-url", "http://a.test")
    rows = ccf("providers", "list").out.splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [["-", "anthropic-primary"], ["1", "a"]]
