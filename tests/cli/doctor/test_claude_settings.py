from pathlib import Path

import pytest

from ccfallback.cli.doctor.claude_settings import sources


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_place_in_the_order_in_which_they_beat_each_other(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "project"
    user = written(home / ".claude" / "settings.json", '{"env": {"A": "1", "N": 1}}')
    project = written(folder / ".claude" / "settings.json", '{"model": "x"}')
    local = written(folder / ".claude" / "settings.local.json", '{"env": {"A": "2"}}')
    found = sources({"A": "0"}, home, folder)
    assert [each.name for each in found] == ["the environment", str(user), str(project), str(local)]
    assert [dict(each.variables) for each in found] == [{"A": "0"}, {"A": "1"}, {}, {"A": "2"}]
    assert not any(each.unreadable for each in found)


def test_the_users_settings_may_be_elsewhere(tmp_path: Path) -> None:
    found = sources({"CLAUDE_CONFIG_DIR": str(tmp_path)}, Path("/home/nobody"), tmp_path / "x")
    assert found[1].name == str(tmp_path / "settings.json")


def test_the_home_is_a_project_once(tmp_path: Path) -> None:
    assert len(sources({}, tmp_path, tmp_path)) == 3


def test_what_an_organization_lays_down_beats_all_others_where_it_is_there(tmp_path: Path) -> None:
    managed = tmp_path / "managed-settings.json"
    assert len(sources({}, tmp_path, tmp_path, managed)) == 3
    written(managed, '{"env": {"A": "3"}}')
    last = sources({"A": "0"}, tmp_path, tmp_path, managed)[-1]
    assert (last.name, dict(last.variables)) == (str(managed), {"A": "3"})


@pytest.mark.parametrize("text", ["{,", "[]", "\x00", "[" * 100_000])
def test_what_can_not_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    written(tmp_path / ".claude" / "settings.json", text)
    assert sources({}, tmp_path, tmp_path / "x")[1].unreadable


@pytest.mark.parametrize("text", ["{}", '{"env": []}', '{"env": null}'])
def test_settings_without_variables_are_no_trouble(tmp_path: Path, text: str) -> None:
    written(tmp_path / ".claude" / "settings.json", text)
    found = sources({}, tmp_path, tmp_path / "x")[1]
    assert (dict(found.variables), found.unreadable) == ({}, False)
