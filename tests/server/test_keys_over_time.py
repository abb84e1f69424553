"""Several keys over time: the breakers of the server, without sockets."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from ccfallback.config.model import Config, KeySource, Provider
from ccfallback.messages.body import Body
from ccfallback.policy.breaker import Limits
from ccfallback.policy.draft import RequestDraft
from ccfallback.policy.failover import Try, failover, is_answer
from ccfallback.policy.outcome import OF_ACCOUNT, RETRYABLE, Fault, Outcome
from ccfallback.redact import Secret
from ccfallback.server.breakers import Breakers
from ccfallback.server.client_credentials import hash_credential
from ccfallback.server.health import RequestHealth
from ccfallback.server.record import Recorder
from ccfallback.state.store import MemoryStore

DRAFT = RequestDraft(Body.parse(b'{"model":"m","messages":[]}'))
OF_SERVER = sorted(RETRYABLE | {Fault.TIMEOUT, Fault.UNKNOWN_MODEL})


@st.composite
def worlds(draw: st.DrawFn) -> tuple[tuple[Provider, ...], dict[str, Fault], str]:
    """Providers, the fault that each of their keys always meets, and the key that works."""
    providers = tuple(
        Provider(
            name=f"p{index}",
            base_url=f"https://p{index}.test",
            key=KeySource(literals=tuple(Secret(f"{index}-{n}") for n in range(count))),
        )
        for index, count in enumerate(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    )
    accounts = [account for provider in providers for account in provider.accounts]
    good = draw(st.sampled_from(accounts))
    down = {
        provider.name: draw(st.none() | st.sampled_from(OF_SERVER))
        for provider in providers
        if provider.name != good.name
    }
    faults = {
        each.label: down.get(each.name) or draw(st.sampled_from(sorted(OF_ACCOUNT)))
        for each in accounts
        if each is not good
    }
    return providers, faults, good.label


def attempts(
    breakers: Breakers, config: Config, faults: dict[str, Fault], reset: float | None
) -> Iterator[str]:
    """The keys that one request goes to; the last one answers."""
    accounts = [account for provider in config.active for account in provider.accounts]
    health = RequestHealth(
        breakers,
        Limits.from_config(config),
        "m",
        "id",
        find_credential=lambda provider: hash_credential(provider, []),
    )
    flow = failover(
        DRAFT,
        accounts,
        health,
        is_final=is_answer,
        repair=lambda *_: None,
        backoff=lambda _: 0.0,
        clock=lambda: 0.0,
    )
    try:
        step = next(flow)
        while True:
            assert isinstance(step, Try)
            yield step.provider.label
            fault = faults.get(step.provider.label, Fault.NONE)
            until = None if reset is None else breakers.clock() + reset
            step = flow.send(Outcome(fault, status=200, until=until))
    except StopIteration:
        return


@given(worlds(), st.lists(st.floats(0, 2000), min_size=1, max_size=15), st.none() | st.just(3600.0))
def test_no_request_is_lost_while_one_key_works(
    world: tuple[tuple[Provider, ...], dict[str, Fault], str],
    pauses: list[float],
    reset: float | None,
) -> None:
    providers, faults, good = world
    primary = Config().primary
    config = Config(
        primary=Provider(name=primary.name, base_url=primary.base_url, primary=True, disabled=True),
        providers=providers,
    )
    now = 1_000_000.0
    breakers = Breakers(MemoryStore(), Recorder(None), clock=lambda: now)
    breakers.configure(config)
    try:
        for pause in pauses:
            tried = list(attempts(breakers, config, faults, reset))
            assert tried[-1] == good
            assert len(set(tried)) == len(tried)
            now += pause
    finally:
        breakers.close()
