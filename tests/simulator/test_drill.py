"""The acceptance test: no turn is lost while one provider lives."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from ccfallback.config.model import Config, Failover, KeySource, Provider
from ccfallback.simulator import SCRIPTED_FORMATS
from ccfallback.simulator import drill as module
from ccfallback.simulator.drill import Report, drill, drill_cases
from ccfallback.simulator.faults import (
    CAPPED,
    FAULTS,
    SPECIAL_FAULTS,
    TASK_FAULTS,
    Ends,
    ScriptedFault,
)
from ccfallback.simulator.scripted import Connection, Received, Script
from ccfallback.simulator.scripted_format import ScriptedFormat
from ccfallback.wire import FORMATS
from tests.simulator import BY_ID

NOBODY = "https://provider.invalid/v1"


def config(*formats: str) -> Config:
    """A primary, and fallbacks of these formats, whose keys are nowhere."""
    providers = tuple(
        Provider(
            name=f"{wire_format}-{number}",
            base_url=NOBODY,
            format=wire_format,
            auth_header=FORMATS[wire_format].auth_header,
            key=KeySource(env="NOT_TO_BE_READ"),
        )
        for number, wire_format in enumerate(formats)
    )
    return Config(providers=providers)


def run(chain: Config) -> dict[str, Report]:
    heard: list[Report] = []
    reports = drill(chain, lambda report, _: heard.append(report))
    assert len(heard) == len(reports)
    found = {report.id: report for report in reports}
    assert len(found) == len(reports)
    return found


KINDS = {(fault.place, fault.ends, fault.waits): fault for fault in FAULTS}
ONE_OF_EACH = [BY_ID["refused"], *(each for each in KINDS.values() if each.id != "refused")]
"""A fault of each kind."""


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("name", SCRIPTED_FORMATS)
def test_no_turn_is_lost_while_one_provider_lives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, all_cases = FAULTS, drill_cases
    if name != "anthropic":
        # All faults of a fallback of this format; those of the primary do not depend on it.
        faults = tuple(ONE_OF_EACH)
        monkeypatch.setattr(
            module,
            "drill_cases",
            lambda chain: (
                case
                for case in all_cases(chain)
                if case.at != 0 or case.fault in faults or case.fault not in FAULTS
            ),
        )
    reports = no_turn_is_lost(config(name), faults)
    assert {f"{name}-0/{fault.id}" for fault in FAULTS if not fault.login} <= reports.keys()


def test_no_turn_is_lost_while_one_provider_of_five_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    # A long chain differs from a short one in what comes after a fault.
    faults = ONE_OF_EACH
    monkeypatch.setattr(module, "FAULTS", faults)
    no_turn_is_lost(config("openai", "anthropic", "openai", "anthropic"), faults)


def no_turn_is_lost(chain: Config, faults: Sequence[ScriptedFault]) -> dict[str, Report]:
    reports = run(chain)
    assert [report.id for report in reports.values() if report.lost] == []
    for fault in (*faults, *TASK_FAULTS):
        if fault.fallback_only:
            continue
        report = reports[fault.id]
        well = fault.ends is Ends.WELL
        assert report.answered
        assert report.provider == ("anthropic-primary" if well else chain.providers[0].name)
        # Beyond what the fault itself costs: the client's one restart, and nothing else.
        assert report.waited <= 1.0
        assert report.requests <= 3 * (1 + fault.other_login)
    first = chain.providers[0]
    for special in SPECIAL_FAULTS.get(first.format, ()):
        assert reports[f"{first.name}/{special.id}"].attempts >= 2
    for provider in chain.chain:
        assert reports[f"{provider.name}/alone"].provider == provider.name
    return reports


@pytest.mark.parametrize("names", [("openai",), ("anthropic", "bedrock", "vertex")])
def test_what_shows_over_a_task_moves_it_when_it_happens(
    monkeypatch: pytest.MonkeyPatch, names: Sequence[str]
) -> None:
    monkeypatch.setattr(module, "FAULTS", [BY_ID["refused"]])
    chain = config(*names)
    reports = run(chain)
    first, second = chain.providers[0].name, chain.providers[-1 if len(names) == 1 else 1].name
    # Its first answer comes from the provider itself, and the second from the next one.
    for each, provider in (("window-fills", first), ("cap", first), (f"{first}/cap", second)):
        assert reports[each].provider == provider, each
        assert not reports[each].lost
    assert reports["window-fills"].attempts == 3
    assert reports["cap"].attempts == 2
    assert (reports["cap"].client_sees, reports["cap"].waited) == ("the answer", 0)
    if len(names) > 1:
        # The first provider is unreachable, the second one answers once.
        assert (reports[f"{first}/cap"].requests, reports[f"{first}/cap"].waited) == (2, 0)
    # The other login has its two answers at once, the first one has a refusal before them.
    login = reports["window-of-one-login"]
    assert (login.provider, login.attempts, login.requests) == (first, 5, 4)
    assert login.client_sees == "the answer; with another login the answer"
    everywhere = reports[CAPPED.id]
    assert (everywhere.lost, everywhere.answered, everywhere.attempts) == (False, False, 0)
    assert everywhere.client_sees.startswith(
        "429 The spend cap is reached: anthropic-primary ($0.00"
    )


def test_a_lone_provider_is_tried_again_or_its_refusal_is_forwarded() -> None:
    reports = run(Config())
    assert not any(report.lost for report in reports.values())
    told = {report.id for report in reports.values() if not report.answered}
    of_money_and_windows = {"window-fills", "window-of-one-login", "cap"}
    assert told == {
        *("400-billing", "402", "403", "429-hours", "429-window", "429-model"),
        *of_money_and_windows,
    }
    assert "spend cap" in reports["cap"].client_sees
    assert all(BY_ID[id_].ends is Ends.LASTS for id_ in told)
    assert reports["hang"].configured_seconds > 30 > reports["hang"].seconds


def test_a_configuration_that_hands_failures_on_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    excluded, others = {"402", "403", "500", "529"}, {"429", "hang", "html", "cut-in-text"}
    monkeypatch.setattr(module, "FAULTS", [BY_ID[each] for each in (*excluded, *others, "refused")])
    chain = replace(config("anthropic"), failover=Failover(statuses=frozenset({429})))
    reports = run(chain)
    lost = {report.id for report in reports.values() if report.lost}
    assert excluded <= lost
    assert not others & lost


def test_a_machine_too_busy_for_the_timeouts_is_not_the_chains_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FAULTS", [BY_ID[each] for each in ("500", "refused", "hang")])
    monkeypatch.setattr(module, "SHORTEST", 1e-6)
    monkeypatch.setattr(module, "LONGEST", 1e-6)
    monkeypatch.setattr(module, "PATIENCE", (1, 2, 1e6))
    chain = config("openai", "anthropic")
    reports = run(chain)
    del reports[CAPPED.id]
    for id_, report in reports.items():
        alone = id_.endswith("/alone")
        assert not report.lost
        assert report.provider == (report.id.split("/")[0] if alone else expected(id_, chain))


def test_a_refusal_that_a_busy_machine_delays_is_heard_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def late(wire: ScriptedFormat) -> Script:
        refuse = BY_ID["500"].make(wire)

        async def script(request: Received, connection: Connection) -> None:
            await asyncio.sleep(0.3)
            await refuse(request, connection)

        return script

    faults = [ScriptedFault("late", "a late refusal", late), BY_ID["refused"]]
    monkeypatch.setattr(module, "FAULTS", faults)
    monkeypatch.setattr(module, "SHORTEST", 0.1)
    monkeypatch.setattr(module, "LONGEST", 0.1)
    monkeypatch.setattr(module, "PATIENCE", (1, 100))
    chain = replace(config("anthropic"), failover=Failover(statuses=frozenset({429})))
    # The fallback would answer if the first timeout were the last word.
    assert run(chain)["late"].lost


def expected(id_: str, chain: Config) -> str:
    """The provider that answers: the one after the failing provider."""
    return chain.providers["/" in id_].name
