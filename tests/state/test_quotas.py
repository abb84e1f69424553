"""The readings of the plan's windows in the state file."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ccfallback.config.model import Quota
from ccfallback.policy.quota import Reading, add_reading, read_quota
from ccfallback.state.file import StateFile
from ccfallback.state.quotas import QUOTAS, quota_key
from ccfallback.state.sections import Entry

NOW = 1_795_000_000.0
HEADERS = {
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-5h-utilization": "0.95",
    "anthropic-ratelimit-unified-5h-reset": "1795003600",
    "anthropic-ratelimit-unified-overage-status": "allowed",
    "anthropic-ratelimit-unified-overage-in-use": "true",
    "anthropic-ratelimit-unified-slow-budget-reset": "1795003600",
    "anthropic-ratelimit-unified-grace-5h-utilization": "1.1",
    "anthropic-ratelimit-unified-upgrade-paths": "max_5x",
}


def reading(now: float = NOW) -> Reading:
    found = read_quota(HEADERS, now)
    assert found is not None
    return found


def test_a_reading_is_the_same_after_a_restart(tmp_path: Path) -> None:
    rules = Quota(switch_at=0.9)
    made = add_reading(add_reading(None, reading(), rules), reading(NOW + 60), rules)
    key = quota_key("0123456789abcdef", "fedcba9876543210")
    StateFile(tmp_path / "state.json").update(lambda s: s, [Entry(QUOTAS, key, made)])
    assert QUOTAS.read(StateFile(tmp_path / "state.json").load().sections) == {key: made}
    table = json.loads((tmp_path / "state.json").read_text())["quotas"][key]
    assert table["at"] == 1_795_000_060_000
    assert table["windows"]["5h"]["reset"] == 1_795_003_600_000
    assert table["windows"]["5h"]["points"][0] == [1_795_000_000_000, 0.95]


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {"at": "x"},
        {"at": 1e300},
        {"at": 1, "windows": {"5h": {"at": 2}}},
        {"at": 1, "windows": {"5h": {"at": 1, "points": [1]}}},
        {"at": 1, "windows": {"5h": {"at": 1, "points": [[1, 2, 3]]}}},
        {"at": 1, "overage": 3},
    ],
)
def test_an_entry_that_is_no_reading_does_not_count(tmp_path: Path, raw: Any) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(msgspec.json.encode({"quotas": {"a": raw}}))
    assert QUOTAS.read(StateFile(path).load().sections) == {}
