"""What the commands say of providers that use a login."""

from pathlib import Path

import pytest

from ccfallback.paths import Paths
from tests.cli.conftest import Run
from tests.credentials.machine import FakeMachine, fails

CONFIG = """
[primary]
disabled = true

[[providers]]
name = "cloud"
base_url = "http://127.0.0.1:9"
auth = "aws"
aws = { profile = "work", region = "eu-central-1" }
"""

COMMAND = "aws sso login --profile work"


@pytest.fixture
def machine(tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """This machine, with a home and a PATH of its own, and a login that has expired."""
    paths.config.parent.mkdir(parents=True, exist_ok=True)
    paths.config.write_text(CONFIG)
    home = tmp_path / "user"
    home.mkdir()
    machine = FakeMachine(home)
    for name, value in machine.environ.items():
        monkeypatch.setenv(name, value)
    machine.install("aws", fails("The SSO session has expired: canary-secret"))
    return machine


@pytest.mark.usefixtures("machine")
def test_the_doctor_names_the_command_for_an_expired_login(ccf: Run) -> None:
    ran = ccf("doctor")
    assert "cloud has no credential: the login of AWS profile work" in ran.out
    assert COMMAND in ran.out
    assert "canary" not in ran.out + ran.err


@pytest.mark.usefixtures("machine")
def test_the_test_of_a_provider_names_the_command_for_an_expired_login(ccf: Run) -> None:
    ran = ccf("providers", "test", "cloud", "--json")
    assert ran.code == 1
    assert f"run `{COMMAND}`" in str(ran.json)
    assert "then `ccfallback providers test cloud`" in str(ran.json)
    assert "canary" not in ran.out + ran.err


@pytest.mark.usefixtures("machine")
def test_the_place_of_a_login_is_shown_without_asking(ccf: Run, machine: FakeMachine) -> None:
    assert "AWS profile work" in ccf("providers", "show", "cloud").out
    assert "AWS profile work" in ccf("providers", "list").out
    assert machine.calls("aws") == []
