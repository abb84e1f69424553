"""What the servers of a shared state spend together: each writes its own sums, and reads those of
the others.
"""

from secrets import token_hex

from ccfallback.policy.spend import Reservations, Spent
from ccfallback.server.breakers import Breakers
from ccfallback.state.spent import (
    HELD,
    HELD_SECONDS,
    SPENT,
    Held,
    entry_key,
    held_elsewhere,
    is_later,
    make_sum,
    spent_elsewhere,
)


class SharedSpending:
    """The sums and reservations of this server and of the others, by account."""

    def __init__(self, breakers: Breakers, reservations: Reservations, ledger: str) -> None:
        """`ledger` is the name of this server's own."""
        self._breakers = breakers
        self._reservations = reservations
        self._ledger = ledger
        self._server = token_hex(8)

    def spent(self, account: str) -> Spent:
        """What an account has cost at other servers."""
        entries, now = self._breakers.entries(SPENT), self._breakers.clock()
        return spent_elsewhere(entries, self._ledger, account, now)

    def held(self, account: str) -> int:
        """What requests in flight at other servers may cost an account."""
        entries, now = self._breakers.entries(HELD), self._breakers.clock()
        return held_elsewhere(entries, self._server, account, now)

    def publish(self, account: str, spent: Spent) -> bool:
        """Write what this server has spent and reserved, where it differs; whether it does."""
        breakers, now = self._breakers, self._breakers.clock()
        key, total = entry_key(self._ledger, account), make_sum(spent, now)
        old = breakers.entry(SPENT, key)
        # Another server on the same ledger may have read more of it.
        is_new = bool(spent.month) if old is None else is_later(total, old)
        if is_new:
            breakers.put(SPENT, key, total, urgent=True)
        key, nano = entry_key(self._server, account), self._reservations.held(account)
        held = breakers.entry(HELD, key)
        is_old = held is not None and held.nano and now - held.at / 1000 > HELD_SECONDS / 3
        if is_old or nano != (held.nano if held is not None else 0):
            breakers.put(HELD, key, Held(nano, round(now * 1000)), urgent=True)
            is_new = True
        return is_new
