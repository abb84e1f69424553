"""What outlives a request: the running server's configuration, state and connections."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from secrets import token_hex
from time import time

from ccfallback.addresses import Address
from ccfallback.events.aggregate import Totals, metric_totals
from ccfallback.events.distributions import Histogram
from ccfallback.policy.affinity import Sessions
from ccfallback.policy.latency import Latencies
from ccfallback.policy.learned import PlainFormRefusals
from ccfallback.policy.signatures import SignatureOrigins
from ccfallback.server.breakers import Breakers
from ccfallback.server.client_credentials import RefusedLogins
from ccfallback.server.credentials import Keys
from ccfallback.server.live_config import LiveConfig
from ccfallback.server.notices import Notices
from ccfallback.server.quotas import Quotas
from ccfallback.server.record import Recorder
from ccfallback.server.spending import Spending
from ccfallback.server.upstream import Upstreams


@dataclass(slots=True)
class Services:
    """Everything that outlives a request."""

    live: LiveConfig
    breakers: Breakers
    recorder: Recorder
    upstreams: Upstreams
    quotas: Quotas = field(init=False)
    notices: Notices = field(init=False)
    logins: RefusedLogins = field(init=False)
    keys: Keys = field(default_factory=Keys)
    signatures: SignatureOrigins = field(default_factory=SignatureOrigins)
    plain_form_refusals: PlainFormRefusals = field(default_factory=PlainFormRefusals)
    sessions: Sessions = field(default_factory=Sessions)
    latencies: Latencies = field(default_factory=Latencies)
    spending: Spending = field(default_factory=Spending)
    totals: Totals[Histogram] = field(default_factory=metric_totals)
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits before another attempt."""
    started: float = field(default_factory=time)
    instance: str = field(default_factory=lambda: f"ccfallback-{token_hex(4)}")
    """This process in a `via` header: a request that already carries it has come back in a loop."""
    is_draining: Callable[[], bool] = lambda: False
    """Whether the server was asked to stop."""
    listener: Address | None = None
    """The address on which this server listens; `None` before it does."""

    via: str = field(init=False)
    """This proxy's entry in a `via` header (RFC 9110, 7.6.3)."""

    def __post_init__(self) -> None:
        self.quotas = Quotas(self.breakers)
        self.logins = RefusedLogins(self.breakers)
        self.notices = Notices(self.recorder)
        self.via = f"1.1 {self.instance}"
