"""What servers of one state spend together, without a network."""

from collections.abc import Iterator
from typing import Any

import pytest

from ccfallback.policy.spend import Reservations, Spent
from ccfallback.server.breakers import Breakers
from ccfallback.server.record import Recorder
from ccfallback.server.shared_spending import SharedSpending
from ccfallback.state.sections import Section, Sections
from ccfallback.state.spent import HELD, HELD_SECONDS
from ccfallback.state.store import MemoryStore

NOW = 1_763_985_600.0


class Servers:
    """Two servers with ledgers of their own."""

    def __init__(self) -> None:
        self.now = NOW
        store = MemoryStore()
        self.breakers = [Breakers(store, Recorder(None), lambda: self.now) for _ in range(2)]
        self.reservations = [Reservations() for _ in range(2)]
        self.sides = [
            SharedSpending(breakers, reservations, f"ledger{number}")
            for number, (breakers, reservations) in enumerate(
                zip(self.breakers, self.reservations, strict=True)
            )
        ]

    async def share(self) -> None:
        for each in self.breakers:
            await each.flush()
        for each in self.breakers:
            await each.refresh()


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    for each in made.breakers:
        each.close()


async def test_sums_are_published_once_and_count_elsewhere_only(servers: Servers) -> None:
    one, other = servers.sides
    assert not one.publish("a", Spent(0, 0))
    assert one.publish("a", Spent(3, 5))
    assert not one.publish("a", Spent(3, 5))
    await servers.share()
    assert other.spent("a") == Spent(3, 5)
    assert one.spent("a") == other.spent("b") == Spent(0, 0)
    # A server that has read less of the same ledger takes nothing back.
    assert not one.publish("a", Spent(2, 5))
    assert other.publish("a", Spent(1, 1))
    await servers.share()
    assert one.spent("a") == Spent(1, 1)


async def test_reservations_count_elsewhere_while_their_server_lives(servers: Servers) -> None:
    one, other = servers.sides
    amount = servers.reservations[0].reserve("a", "model", 100)
    assert one.publish("a", Spent(0, 0))
    await servers.share()
    assert (other.held("a"), one.held("a")) == (amount, 0)
    servers.now += HELD_SECONDS / 2
    # It still holds, and says so.
    assert one.publish("a", Spent(0, 0))
    await servers.share()
    servers.now += HELD_SECONDS - 1
    assert other.held("a") == amount
    servers.now += 1
    assert other.held("a") == 0
    servers.reservations[0].release("a", amount)
    assert one.publish("a", Spent(0, 0))
    assert not one.publish("a", Spent(0, 0))
    await servers.share()
    # Nothing stays of what is given back.
    assert servers.breakers[1].entries(HELD) == {}
    assert not one.publish("a", Spent(0, 0))


async def test_a_section_is_parsed_once_for_each_snapshot(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = servers.sides
    assert one.publish("a", Spent(3, 5))
    await servers.share()
    parsed: list[object] = []
    read = Section.read

    def counting(section: Section[Any], sections: Sections) -> dict[str, Any]:
        parsed.append(section.name)
        return read(section, sections)

    monkeypatch.setattr(Section, "read", counting)
    for _ in range(3):
        assert (other.spent("a"), other.spent("b")) == (Spent(3, 5), Spent(0, 0))
    assert parsed == ["spent"]
    assert one.publish("a", Spent(4, 6))
    await servers.share()
    assert other.spent("a") == Spent(4, 6)
