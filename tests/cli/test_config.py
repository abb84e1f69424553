"""The configuration as a whole, and its history."""

import errno
import os
import shlex
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfallback.config.file import CLEARED
from ccfallback.paths import Paths
from tests.cli.conftest import Run

Configure = Callable[[str], None]


def editor(tmp_path: Path, code: str) -> str:
    """An editor that does to the file in `path` what the code says."""
    script = tmp_path / "editor.py"
    script.write_text(f"import pathlib, sys\npath = pathlib.Path(sys.argv[1])\n{code}\n")
    return shlex.join([sys.executable, str(script)])


def test_the_path_is_all_that_a_script_gets(ccf: Run, paths: Paths) -> None:
    assert ccf("config", "path").out == f"{paths.config}\n"
    assert ccf("config", "path", "--json").json == {
        "config": str(paths.config),
        "state": str(paths.state),
        "log": str(paths.log),
    }


def test_validate_names_every_fault(ccf: Run, configure: Configure) -> None:
    configure("[server]\nport = 'x'\nhots = 1\n")
    ran = ccf("config", "validate")
    assert ran.code == 1
    assert "server.port" in ran.err
    assert "server.hots" in ran.err
    configure("")
    assert ccf("config", "validate", "--json").json["ok"] is True


def test_rollback_takes_back_each_kind_of_write(ccf: Run, paths: Paths) -> None:
    ccf("providers", "add", "one", "--base-url", "http://one.test")
    ccf("providers", "add", "two", "--base-url", "http://two.test")
    before = paths.config.read_text()
    ccf("providers", "remove", "one")
    assert ccf("config", "rollback").code == 0
    assert paths.config.read_text() == before
    versions = ccf("config", "history", "--json").json["versions"]
    assert [version["number"] for version in versions] == [4, 3, 2, 1]
    assert ccf("config", "rollback", "1", "--json").json == {
        "version": 1,
        "changed": True,
        "changes": ["- one", "- two"],
        "skipped": [],
    }
    assert paths.config.read_text() == CLEARED


def test_rollback_mends_a_broken_file(ccf: Run, paths: Paths) -> None:
    ccf("providers", "add", "one", "--base-url", "http://one.test")
    ccf("providers", "add", "two", "--base-url", "http://two.test")
    paths.config.write_text("[[[")
    assert ccf("config", "rollback", "--yes").code == 0
    assert "one" in paths.config.read_text()


def test_the_history_names_commands_and_changes(
    ccf: Run, configure: Configure, paths: Paths
) -> None:
    ccf("providers", "add", "one", "--base-url", "http://one.test", "--api-key", "sk-secret-1234")
    configure(paths.config.read_text() + "[server]\nport = 9000\n")
    ccf("config", "set", "providers.one.api_key", "sk-other-secret-5678")
    ccf("config", "unset", "server.port")
    listed = [
        (version["number"], version["by"], version["changes"])
        for version in ccf("config", "history", "--json").json["versions"]
    ]
    key, *others = listed
    assert key[:2] == (4, "config set")
    assert key[2][0].startswith("~ one.api_key ")
    assert others == [
        (3, "edited by hand", ["~ server.port 8787 → 9000"]),
        (2, "providers add", ["+ one"]),
        (1, None, []),
    ]
    ran = ccf("config", "history")
    header, newest, *older = ran.out.splitlines()
    assert header.split("  ")[:2] == ["version", "written by"]
    assert " ".join(newest.split()) == "5 config unset ~ server.port 9000 → 8787 in use"
    assert all(row.endswith(("ago", "just now")) for row in older)
    assert f"{paths.config}.history" in ran.err
    # Before the first change there was nothing.
    assert older[-1].split()[:3] == ["1", "-", "-"]
    kept = "".join(path.read_text() for path in (paths.config.parent).rglob("*.by"))
    assert "secret" not in ran.out + kept


def test_a_version_that_is_not_toml_is_listed(ccf: Run, paths: Paths) -> None:
    ccf("config", "set", "server.port", "1")
    paths.config.write_text("[[[")
    ccf("config", "rollback")
    rows = ccf("config", "history").out.splitlines()
    assert [row for row in rows if "not valid TOML" in row]
    # What does not load is no step: the change is that since the last version that did.  plain: ok
    assert " ".join(rows[1].split()[1:]) == "config rollback comments only in use"


def test_diff_is_what_has_changed_since(ccf: Run, paths: Paths) -> None:
    add = ("providers", "add", "one", "--base-url", "http://one.test")
    ccf(*add, "--api-key", "sk-secret-1234")
    ccf("config", "set", "server.port", "9000")
    ccf("config", "set", "providers.one.api_key", "sk-other-secret-5678")
    ran = ccf("config", "diff")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("~ one.api_key ")
    assert ran.out.count("\n") == 1
    assert "secret" not in ccf("config", "diff", "1").out + ran.out
    assert ccf("config", "diff", "2", "--json").json["changes"][1:] == ["~ server.port 8787 → 9000"]
    assert ccf("config", "diff", "1").out.splitlines() == ["+ one", "~ server.port 8787 → 9000"]
    paths.config.write_text("# a comment\n" + paths.config.read_text())
    ccf("config", "validate")
    assert ccf("config", "diff", "4").out == "only comments or the form of the file differ\n"
    ran = ccf("config", "diff", "77")
    assert (ran.code, "there is no version 77" in ran.err) == (1, True)


def test_diff_without_a_history_says_so(ccf: Run) -> None:
    assert "there is no earlier version" in ccf("config", "diff").err


@pytest.mark.parametrize(
    ("text", "key", "left"),
    [
        (
            "[server]\nport = 1\nhost = 'localhost'\n",
            "server.port",
            "[server]\nhost = 'localhost'\n",
        ),
        ("# top\n[server] # c\nport = 1\n", "server.port", "# top\n[server] # c\n"),
        (
            "[[providers]]\nname = 'a'\nbase_url = 'http://a.test'\nretry = 2\n",
            "providers.a.retry",
            "[[providers]]\nname = 'a'\nbase_url = 'http://a.test'\n",
        ),
        (
            "[[providers]]\nname = 'a'\nbase_url = 'http://a.test'\ntimeouts = {idle = 5}\n",
            "providers.a.timeouts.idle",
            "[[providers]]\nname = 'a'\nbase_url = 'http://a.test'\n",
        ),
        (
            "[[providers]]\nname = 'a'\nbase_url = 'http://a.test'\n"
            "model_mapping = {'claude-x.5' = 'm', '*' = 'n'}\n",
            "providers.a.model_mapping.claude-x.5",
            "[[providers]]\nname = 'a'\nbase_url = 'http://a.test'\nmodel_mapping = { '*' = 'n'}\n",
        ),
        ("[primary]\nretry = 1\n", "providers.anthropic-primary.retry", "[primary]\n"),
    ],
)
def test_unset_removes_one_key(
    ccf: Run, paths: Paths, configure: Configure, text: str, key: str, left: str
) -> None:
    configure(text)
    assert ccf("config", "unset", key, "--json").json == {"key": key, "changed": True}
    assert paths.config.read_text() == left
    again = ccf("config", "unset", key)
    assert (again.code, "nothing changed" in again.err) == (0, True)
    ccf("config", "rollback")
    assert paths.config.read_text() == text


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("server.prot", "did you mean server.port?"),
        ("providers.a", "providers remove"),
        ("server", "name one of its keys"),
        ("providers.b.retry", "no provider is named b"),
        ("providers.a.base_url", "nothing was changed"),
    ],
)
def test_unset_refuses_what_is_not_one_optional_key(
    ccf: Run, paths: Paths, configure: Configure, key: str, words: str
) -> None:
    configure("[[providers]]\nname = 'a'\nbase_url = 'http://a.test'\n")
    ran = ccf("config", "unset", key)
    assert ran.code == 1
    assert words in ran.err.replace("was not changed", "nothing was changed")
    assert "base_url" in paths.config.read_text()


def test_rollback_on_a_full_disk_says_so(ccf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ccf("config", "set", "server.port", "1")
    monkeypatch.setattr("ccfallback.files.replace_atomically", fail)
    ran = ccf("config", "rollback")
    assert ran.code == 1
    assert "No space left on device; check the permissions of the file and its folder" in ran.err


def test_rollback_without_a_history_says_so(ccf: Run) -> None:
    ran = ccf("config", "rollback")
    assert ran.code == 1
    assert "no earlier version" in ran.err
    ccf("providers", "add", "one", "--base-url", "http://one.test")
    ran = ccf("config", "rollback", "9")
    assert ran.code == 1
    assert "config history" in ran.err


def test_an_edit_is_saved_and_can_be_undone(
    ccf: Run, configure: Configure, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("# mine\n")
    monkeypatch.setenv("EDITOR", editor(tmp_path, "path.write_text(path.read_text() + '[log]\\n')"))
    assert ccf("config", "edit").code == 0
    assert paths.config.read_text() == "# mine\n[log]\n"
    ccf("config", "rollback")
    assert paths.config.read_text() == "# mine\n"


@pytest.mark.parametrize("code", ["path.write_text('[[[')", "sys.exit(3)"])
def test_an_edit_that_would_not_load_is_not_saved(
    ccf: Run,
    configure: Configure,
    paths: Paths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
) -> None:
    configure("# mine\n")
    monkeypatch.setenv("EDITOR", editor(tmp_path, code))
    assert ccf("config", "edit").code == 1
    assert paths.config.read_text() == "# mine\n"


def test_the_next_edit_continues_with_a_text_that_did_not_load(
    ccf: Run, configure: Configure, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = paths.config.with_name(f"{paths.config.name}.draft")
    configure("# mine\n")
    monkeypatch.setenv("EDITOR", editor(tmp_path, "path.write_text(path.read_text() + '[lag]\\n')"))
    ran = ccf("config", "edit")
    assert ran.code == 1
    assert "nothing was changed" in ran.err
    assert str(draft) in ran.err
    assert draft.read_text() == "# mine\n[lag]\n"
    assert stat.S_IMODE(draft.stat().st_mode) == 0o600
    mend = "path.write_text(path.read_text().replace('lag', 'log'))"
    monkeypatch.setenv("EDITOR", editor(tmp_path, mend))
    ran = ccf("config", "edit")
    assert ran.code == 0
    assert "continuing" in ran.err
    assert paths.config.read_text() == "# mine\n[log]\n"
    assert not draft.exists()


def test_reverting_the_text_leaves_no_draft(
    ccf: Run, configure: Configure, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("# mine\n")
    monkeypatch.setenv("EDITOR", editor(tmp_path, "path.write_text('[lag]')"))
    assert ccf("config", "edit").code == 1
    monkeypatch.setenv("EDITOR", editor(tmp_path, "path.write_text('# mine\\n')"))
    assert "nothing changed" in ccf("config", "edit").err
    assert not paths.config.with_name(f"{paths.config.name}.draft").exists()


def test_rollback_after_a_broken_edit_restores_the_last_text_that_loaded(
    ccf: Run, configure: Configure, paths: Paths
) -> None:
    for name in ("a", "b"):
        ccf("providers", "add", name, "--base-url", f"http://{name}.test")
    ccf("providers", "remove", "b")
    by_hand = paths.config.read_text() + "[server]\nport = 9000\n"
    configure(by_hand)
    assert ccf("status").code == 1  # Whatever loads the file keeps it.
    for _ in range(2):
        configure(by_hand + "a stray line")
        ran = ccf("config", "rollback")
        assert ran.code == 0
        assert paths.config.read_text() == by_hand
    ran = ccf("config", "rollback")
    assert ran.code == 0
    assert "skipped: it would not load" in ran.err
    assert "~ server.port 9000 → 8787" in ran.err
    assert ccf("config", "validate").code == 0


def test_rollback_lists_what_changes(ccf: Run, configure: Configure) -> None:
    configure('[[providers]]\nname = "a"\nbase_url = "http://a.test"\napi_key = "sk-1234567890"\n')
    ccf("providers", "add", "b", "--base-url", "http://b.test")
    configure(
        "[server]\nport = 9000\n"
        '[[providers]]\nname = "a"\nbase_url = "http://a.test"\napi_key = "sk-0987654321"\n'
    )
    ran = ccf("config", "rollback")
    for line in ("+ b\n", "~ a.api_key changed\n", "~ server.port 9000 → 8787\n"):
        assert line in ran.err
    assert "sk-" not in ran.err


def test_a_version_that_would_not_load_is_named_and_not_restored(
    ccf: Run, configure: Configure, paths: Paths
) -> None:
    ccf("providers", "add", "a", "--base-url", "http://a.test")
    good = paths.config.read_text()
    configure("broken")
    ccf("config", "rollback")
    broken = ccf("config", "history", "--json").json["versions"][0]
    assert Path(broken["path"]).read_text() == "broken"
    ran = ccf("config", "rollback", str(broken["number"]))
    assert ran.code == 1
    assert f"version {broken['number']}:1: not valid TOML" in ran.err
    assert str(paths.config) + " is" not in ran.err
    assert paths.config.read_text() == good


def test_without_a_version_that_loads_rollback_says_so(
    ccf: Run, configure: Configure, paths: Paths
) -> None:
    configure("broken")
    ccf("config", "reset")
    ran = ccf("config", "rollback")
    assert ran.code == 1
    assert "no earlier version loads" in ran.err


@pytest.mark.parametrize(
    ("host", "said"),
    [("0.0.0.0", "no access token"), ("not a host", "expected a host name or an IP address")],
)
def test_validate_says_what_serve_will_say(
    ccf: Run, configure: Configure, host: str, said: str
) -> None:
    configure(f'[server]\nhost = "{host}"\n')
    for command in (("config", "validate"), ("serve",)):
        ran = ccf(*command)
        assert ran.code == 1
        assert said in ran.err


READING = [
    *(("providers", command) for command in ("list", "test")),
    ("providers", "show", "anthropic-primary"),
    ("providers", "forget", "anthropic-primary"),
    *(("config", command) for command in ("show", "validate", "export", "history")),
    ("config", "get", "server.port"),
    *(("breaker", command) for command in ("status",)),
    ("breaker", "reset", "--all"),
    ("breaker", "trip", "anthropic-primary", "--for", "1m"),
    ("tokens", "list"),
    ("logs", "tail"),
    *((command,) for command in ("status", "top", "env", "stats", "explain", "drill")),
]


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_what_reads_needs_the_file_that_is_named(
    ccf: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    named = tmp_path / "typo.toml"
    ran = ccf("--config", str(named), *command)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"ccfallback: {named} does not exist; check the path after --config")
    assert not named.exists()
    error = ccf("--config", str(named), *command, "--json").json["error"]
    assert error["message"] == f"{named} does not exist"


def test_no_file_needs_to_exist_where_none_is_named(ccf: Run) -> None:
    for command in (("providers", "list"), ("config", "show"), ("breaker", "status")):
        assert ccf(*command).code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("providers", "add", "a", "--base-url", "http://a.test"),
        ("providers", "set", "anthropic-primary", "--retry", "1"),
        ("providers", "disable", "anthropic-primary"),
        ("config", "set", "log.level", "warn"),
        ("config", "import", "{other}"),
        ("tokens", "add"),
    ],
    ids=" ".join,
)
def test_what_writes_creates_the_file_that_is_named(
    ccf: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    named, other = tmp_path / "new.toml", tmp_path / "other.toml"
    other.write_text('[log]\nlevel = "warn"\n')
    ran = ccf("--config", str(named), *(word.format(other=other) for word in command))
    assert (ran.code, named.exists()) == (0, True)
    assert "does not exist" not in ran.err


def test_serve_runs_without_the_config_file_that_is_named(ccf_process: Run, tmp_path: Path) -> None:
    named = tmp_path / "typo.toml"
    ran = ccf_process("--config", str(named), "serve", "--host", "192.0.2.1", "--port", "0")
    # It stops at the address, which is after the configuration.
    assert f"{named} does not exist: the defaults apply" in ran.err


@pytest.mark.parametrize("host", ["not a host", "http://127.0.0.1", "a..b", "::zz", ""])
def test_a_value_that_is_not_a_host_is_refused(ccf: Run, host: str) -> None:
    assert ccf("config", "set", "server.host", host).code == 1
    ran = ccf("serve", "--host", host)
    assert ran.code == 1
    assert "is not an address of this machine" in ran.err


@pytest.mark.parametrize("host", ["localhost", "::1", "[::1]", "127.0.0.1", "my-box.local."])
def test_a_host_is_a_name_or_an_address(ccf: Run, host: str) -> None:
    assert ccf("config", "set", "server.host", host).code == 0
