"""A running server checks its chain when it is time, and only then."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from ccfallback.config import prices
from ccfallback.config.model import ChainCheck, Config, KeySource, Provider
from ccfallback.events import records as events
from ccfallback.policy.breaker import open_by_hand
from ccfallback.policy.spend import PriceTable
from ccfallback.redact import Secret
from ccfallback.server.breakers import Breakers
from ccfallback.server.check import Checker, estimate_dollars, question
from ccfallback.server.live_config import FixedConfig, LiveConfig
from ccfallback.server.record import Record, Recorder
from ccfallback.server.services import Services
from ccfallback.server.upstream import UpstreamRequest
from ccfallback.simulator import scripted
from ccfallback.state.checks import CHECKS, summarize
from ccfallback.state.file import StateFile
from tests.server.scripted_upstreams import ScriptedResponse, ScriptedUpstreams

EVENTS = scripted.events_of(msgspec.json.encode(scripted.message("OK")))
SSE = (b"content-type", b"text/event-stream")
DAY = 86400.0


def provider(name: str, key: str = "sk-some-key", *, primary: bool = False) -> Provider:
    source = KeySource(literal=Secret(key)) if key else KeySource()
    return Provider(name=name, base_url=f"https://{name}.test", key=source, primary=primary)


class World:
    """Servers that share a state file, and a clock."""

    def __init__(self, folder: Path, every: str | None = "24h", *providers: Provider) -> None:
        self.now = 1_800_000_000.0
        self.file = folder / "state.json"
        self.records: list[Record] = []
        self.config = Config(
            primary=provider("anthropic-primary", "", primary=True),
            providers=providers or (provider("one"), provider("two")),
            check=ChainCheck(every=every),
        )
        self.asked: list[str] = []
        self.busy = False
        self.open: list[Breakers] = []

    def server(self) -> Checker:
        recorder = Recorder(None)
        recorder.listeners.append(self.records.append)
        breakers = Breakers(StateFile(self.file), recorder, lambda: self.now)
        breakers.configure(self.config)
        self.open.append(breakers)
        services = Services(
            live=LiveConfig(FixedConfig(self.config), recorder),
            breakers=breakers,
            recorder=recorder,
            upstreams=self.upstreams(),
            pause=lambda _: asyncio.sleep(0.05),
        )
        return Checker(services, lambda: self.busy)

    def upstreams(self) -> ScriptedUpstreams:
        world = self

        class Answering(ScriptedUpstreams):
            async def send(self, request: UpstreamRequest) -> ScriptedResponse:
                world.asked.append(request.url.split("/")[2])
                return ScriptedResponse(EVENTS, 200, [SSE])

        return Answering()

    def checks(self) -> list[events.ChainCheck]:
        return [each.data for each in self.records if isinstance(each.data, events.ChainCheck)]

    def close(self) -> None:
        for each in self.open:
            each.close()


def test_the_chain_is_checked_once_a_period(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story() -> None:
        server = world.server()
        assert await server.check_if_due()
        assert world.asked == ["one.test", "two.test"]
        assert not await server.check_if_due()
        world.now += DAY - 60
        assert not await server.check_if_due()
        world.now += 60 + 0.1 * DAY
        assert await server.check_if_due()
        summary = summarize(
            CHECKS.read(StateFile(world.file).load().sections), ["one", "two", "three"]
        )
        assert summary is not None
        assert (summary.ready, summary.of) == (2, 2)

    asyncio.run(story())
    world.close()
    assert len(world.asked) == 4
    assert [each.ready for each in world.checks()] == [2, 2]


def test_without_the_option_nothing_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path, None)

    async def story() -> bool:
        return await world.server().check_if_due()

    assert not asyncio.run(story())
    assert not world.asked
    world.close()


def test_no_plan_is_woken(tmp_path: Path) -> None:
    chain = (provider("plan", "sk-ant-oat-of-another-login"), provider("one"))
    world = World(tmp_path, "24h", *chain)

    async def story() -> None:
        await world.server().check_if_due()

    asyncio.run(story())
    assert world.asked == ["one.test"]
    world.close()


def test_of_several_servers_that_share_a_state_one_checks(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story() -> None:
        servers = [world.server() for _ in range(3)]
        made = await asyncio.gather(*(each.check_if_due() for each in servers))
        assert sorted(made) == [False, False, True]
        assert not any([await each.check_if_due() for each in servers])

    asyncio.run(story())
    assert len(world.asked) == 2
    world.close()


def test_a_check_waits_until_no_request_is_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, clock = World(tmp_path), 1000.0
    monkeypatch.setattr("ccfallback.server.check.monotonic", lambda: clock)
    world.busy = True

    async def story() -> None:
        nonlocal clock
        server = world.server()
        assert not await server.check_if_due()
        clock += 1800
        assert not await server.check_if_due()
        assert not world.asked
        clock += 1801
        assert await server.check_if_due()

    asyncio.run(story())
    world.close()


def test_a_provider_that_cools_down_is_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story() -> None:
        server = world.server()
        world.open[0].change(
            "one", lambda state: open_by_hand(state, until=world.now + 60, now=world.now)
        )
        await server.check_if_due()

    asyncio.run(story())
    assert world.asked == ["two.test"]
    world.close()


def test_a_time_in_the_future_delays_no_check(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story() -> None:
        server = world.server()
        assert await server.check_if_due()
        world.now -= 5 * DAY
        assert await server.check_if_due()

    asyncio.run(story())
    world.close()


def test_a_check_of_a_chain_of_five_costs_about_a_cent() -> None:
    table = PriceTable.read(prices.load())
    cost = estimate_dollars(provider("one"), "claude-sonnet-5-5", table)
    assert cost is not None
    assert 5 * cost < 0.012
    assert len(question("m").raw) < 3000


def test_results_are_kept_by_the_name_of_the_provider(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def story() -> None:
        await world.server().check_if_due()

    asyncio.run(story())
    world.close()
    found = CHECKS.read(StateFile(world.file).load().sections)
    assert set(found) == {"one", "two"}
    assert all(each.ok and each.model for each in found.values())
