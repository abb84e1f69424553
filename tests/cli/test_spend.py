"""`ccfallback spend`, and what other commands say of caps."""

import time
from datetime import datetime
from typing import Any

import msgspec
import pytest

from ccfallback.paths import Paths
from ccfallback.state import ledger
from ccfallback.state.ledger import Row
from tests.cli.conftest import NOW, Run


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, paths: Paths) -> Paths:
    """The files that commands use without an option."""
    for name, path in (("CONFIG", paths.config), ("STATE", paths.state), ("LOG_FILE", paths.log)):
        monkeypatch.setenv(f"CCFALLBACK_{name}", str(path))
    paths.config.parent.mkdir(parents=True, exist_ok=True)
    return paths


def write(paths: Paths, *rows: Row) -> None:
    """Add rows to the ledger."""
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    for row in rows:
        with ledger.ledger_path(paths.state, ledger.month_of(row.at)).open("ab") as file:
            file.write(ledger.encode([row]))


def row(at: float, provider: str = "spare", **more: Any) -> Row:
    """An answer that has cost 10 cents."""
    given = {"model": "claude-opus-5", "input": 1000, "output": 200, "cost": 0.1, **more}
    return Row(at=at, provider=provider, **given)


def with_caps(paths: Paths) -> None:
    paths.config.write_text(
        '[[providers]]\nname = "spare"\nbase_url = "https://spare.example"\napi_key = "k"\n'
        "cap = { day = 0.25, month = 60.0 }\n"
    )


def test_costs_are_added_up(ccf: Run, files: Paths) -> None:
    now = time.time()
    write(
        files,
        row(now, session="a"),
        row(now, session="b", cache_read=3000, cache_write=10, cache_write_1h=20, cost=0.2),
        row(now, "anthropic-primary", plan=True, cost=0.0, listed=1.5),
        row(now, model="other/model", cost=None, estimated=True),
        row(now - 40 * 86400, cost=99.0),
    )
    found = ccf("spend", "--by", "provider", "--json").json
    assert found["total"] == {
        "answers": 4,
        "cost": 0.3,
        "unknown": 1,
        "byPlan": 1,
        "listed": 1.5,
        "estimated": 1,
        "tokens": {"input": 4000, "output": 800, "cacheRead": 3000, "cacheWrite": 30},
    }
    assert [(each["provider"], each["cost"]) for each in found["groups"]] == [
        ("spare", 0.3),
        ("anthropic-primary", 0.0),
    ]
    assert found["unknownModels"] == ["other/model"]
    assert found["prices"] == "2026-11-10"
    models = ccf("spend", "--by", "model", "--json").json["groups"]
    assert {each["model"]: each["cost"] for each in models} == {
        "claude-opus-5": 0.3,
        "other/model": None,
    }
    sessions = ccf("spend", "--by", "session", "--json").json["groups"]
    assert [each["session"] for each in sessions] == ["b", "a", None]
    assert ccf("spend", "--since", "90d", "--json").json["total"]["cost"] == 99.3


def test_days_are_those_of_the_calendar(ccf: Run, files: Paths) -> None:
    now = time.time()
    noon = datetime.fromtimestamp(now).replace(hour=0, minute=30).timestamp()
    write(files, row(noon), row(noon - 3600))
    groups = ccf("spend", "--json").json["groups"]
    assert [each["day"] for each in groups] == [ledger.day_of(noon), ledger.day_of(noon - 3600)]


def test_a_screen_says_what_is_unknown_and_what_a_plan_pays(ccf: Run, files: Paths) -> None:
    now = time.time()
    write(
        files, row(now, cost=None, model="other/model"), row(now, plan=True, cost=0.0, listed=1.5)
    )
    shown = ccf("spend").out
    assert "price unknown, not counted: 1 answer of other/model" in shown
    assert "your plan has paid for 1 answer: $1.50 at list price" in shown
    assert "$0.00 + ?" in shown


def test_only_unknown_prices_are_not_zero(ccf: Run, files: Paths) -> None:
    write(files, row(time.time(), cost=None, model="other/model"))
    assert "price unknown, 1 answer" in ccf("spend").out
    assert ccf("spend", "--json").json["total"]["cost"] is None


def test_an_empty_ledger_is_no_error(ccf: Run, files: Paths) -> None:
    assert "no answer is in the ledger" in ccf("spend").out
    assert ccf("spend", "--json").json["groups"] == []


def test_what_is_wrong_on_the_command_line_is_usage(ccf: Run, files: Paths) -> None:
    assert ccf("spend", "--since", "soon").code == 2
    assert ccf("spend", "--by", "moon").code == 2


def test_a_ledger_that_cannot_be_read_is_an_error(ccf: Run, files: Paths) -> None:
    ledger.ledger_path(files.state, ledger.month_of(time.time())).mkdir(parents=True)
    ran = ccf("spend", "--json")
    assert ran.code == 1
    assert "ledger can't be read" in ran.err


def test_caps_are_shown_with_what_is_left(ccf: Run, files: Paths) -> None:
    with_caps(files)
    write(files, row(time.time()))
    day, month = ccf("spend", "--json").json["caps"]
    assert (day["provider"], day["period"], day["cap"]) == ("spare", "day", 0.25)
    assert (day["spent"], day["left"], day["reached"]) == (0.1, 0.15, False)
    assert day["until"] == round(ledger.period_ends(time.time())[0] * 1000)
    assert (month["period"], month["left"]) == ("month", 59.9)
    assert "spare has cost $0.10 of $0.25 a day, $0.15 left until" in ccf("spend").out
    checks = ccf("doctor", "--json").json["checks"]
    assert next(each["ok"] for each in checks if each["id"] == "caps")


def test_every_command_says_that_a_cap_is_reached(ccf: Run, files: Paths) -> None:
    with_caps(files)
    write(files, row(time.time(), cost=0.26))
    sentence = "spare has reached its cap of $0.25 a day: skipped until"
    for command in ("spend", "status"):
        assert sentence in ccf(command).out
    assert [each["reached"] for each in ccf("status", "--json").json["caps"]] == [True, False]
    assert [each["reached"] for each in ccf("top", "--json").json["caps"]] == [True, False]
    assert sentence in ccf("top").out
    check = next(each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "caps")
    assert check["severity"] == "warning"
    assert sentence in check["message"]


def test_the_table_fits_a_terminal(ccf_screen: Any, files: Paths) -> None:
    with_caps(files)
    days = [row(NOW - n * 86400, cost=12.34, cache_read=900_000, input=30_000) for n in range(3)]
    write(files, *days, row(NOW, "anthropic-primary", plan=True, cost=0.0, listed=148.2))
    shown = ccf_screen("spend", columns=80)
    assert "2025-11-24" in shown
    assert "($148.20)" in shown
    assert all(len(line.rstrip()) <= 80 for line in shown.splitlines())


def test_a_row_has_no_key_that_names_content() -> None:
    names = {each.encode_name for each in msgspec.structs.fields(Row)}
    assert names == {
        *("at", "provider", "model", "mapped", "input", "output", "cacheRead", "cacheWrite"),
        *("cacheWrite1h", "cost", "listed", "plan", "estimated", "session", "class"),
        "token",
    }


def test_doctor_warns_of_a_cap_without_prices(ccf: Run, files: Paths) -> None:
    with_caps(files)
    with files.config.open("a") as file:
        file.write('model_mapping = { "*" = "deepseek/deepseek-v4" }\n')
    found = [each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "caps"]
    assert [each["severity"] for each in found] == ["warning"]
    assert "deepseek/deepseek-v4 at spare is unknown" in found[0]["message"]
    for name in ("input", "output"):
        ccf("config", "set", f"providers.spare.prices.{name}", "0.5")
    found = [each for each in ccf("doctor", "--json").json["checks"] if each["id"] == "caps"]
    assert [each["severity"] for each in found] == ["info"]
