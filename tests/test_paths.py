from pathlib import Path

import platformdirs
import pytest

from ccfallback.paths import resolve


def test_an_option_overrides_a_variable_and_that_the_default(tmp_path: Path) -> None:
    environ = {
        "CCFALLBACK_CONFIG": str(tmp_path / "variable.toml"),
        "CCFALLBACK_STATE": str(tmp_path / "variable.json"),
    }
    paths = resolve(config=tmp_path / "option.toml", environ=environ)
    assert paths.config == tmp_path / "option.toml"
    assert paths.state == tmp_path / "variable.json"
    assert paths.log.name == "ccfallback.jsonl"
    assert "ccfallback" in paths.log.parent.parts


def test_the_defaults_have_their_names() -> None:
    paths = resolve(environ={})
    assert (paths.config.name, paths.state.name) == ("config.toml", "state.json")


def test_an_empty_variable_counts_as_none() -> None:
    assert resolve(environ={"CCFALLBACK_CONFIG": ""}) == resolve(environ={})


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    paths = resolve(state=Path("~/s.json"), environ={"CCFALLBACK_LOG_FILE": "~/l.jsonl"})
    assert paths.state == tmp_path / "s.json"
    assert paths.log == tmp_path / "l.jsonl"


def test_the_server_file_is_next_to_the_state(tmp_path: Path) -> None:
    assert resolve(state=tmp_path / "s.json", environ={}).server == tmp_path / "server.json"


@pytest.mark.parametrize("home", ["/home/a", "/", "relative"])
@pytest.mark.parametrize("named", [None, "", "/xdg", "/with space", "relative", " ", "/x "])
def test_the_defaults_are_those_of_platformdirs(
    monkeypatch: pytest.MonkeyPatch, home: str, named: str | None
) -> None:
    monkeypatch.setenv("HOME", home)
    for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
        if named is not None:
            monkeypatch.setenv(variable, named)
    paths = resolve(environ={})
    assert paths.config.parent == platformdirs.user_config_path("ccfallback")
    assert paths.state.parent == platformdirs.user_state_path("ccfallback")
    assert paths.log.parent == platformdirs.user_log_path("ccfallback")
