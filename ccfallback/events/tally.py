"""What became of the requests of one `run`, on one line."""

from collections import Counter

from ccfallback.config.model import PRIMARY_NAME
from ccfallback.events.aggregate import MOST_NAMES, REST
from ccfallback.events.records import Event, RequestComplete, RequestEnd, RequestStart
from ccfallback.words import pluralize


class Tally:
    """Counts requests as they end."""

    def __init__(self) -> None:
        self.begun = 0
        self.requests = 0
        """Requests that ended."""
        self.lost = 0
        """Requests whose client got an error that says to try again later."""
        self.answers = Counter[str]()
        """Answers by provider."""
        self.longest = 0.0
        """The longest wait for the first content, or for a whole answer, in seconds."""
        self.cost = 0.0
        """US dollars, as far as prices are known; what a plan pays costs nothing."""
        self.unpriced = 0
        """Answers whose price is unknown."""
        self.sessions: set[str] = set()

    def count(self, event: Event) -> None:
        """Count an event of the log."""
        if isinstance(event, RequestStart):
            self.begun += 1
            if event.session and len(self.sessions) < MOST_NAMES:
                self.sessions.add(event.session)
        if not isinstance(event, RequestEnd):
            return
        self.requests += 1
        wait = event.ttft if event.stream and event.ttft is not None else event.latency
        if isinstance(event, RequestComplete):
            name = event.provider or REST
            self.answers[name if len(self.answers) < MOST_NAMES else REST] += 1
            self.longest = max(self.longest, (wait or 0.0) / 1000)
            self.unpriced += event.cost is None
        elif event.status == 429 or (event.status or 0) >= 500:
            self.lost += 1
        self.cost += event.cost or 0.0

    def describe(self, *, shared: bool = False) -> str:
        """The line; empty if there was no request.

        With `shared`, they may be requests of other clients, too.
        """
        if not self.requests:
            return ""
        whose = " by all clients" if shared and len(self.sessions) > 1 else ""
        fallbacks = [
            f"{count:,} by {name}"
            for name, count in self.answers.most_common()
            if name != PRIMARY_NAME
        ]
        facts = [
            f"{pluralize(self.requests, 'request')}{whose}",
            *fallbacks,
            f"{self.lost:,} lost" if self.lost else "none lost",
        ]
        if self.answers:
            facts.append(f"longest wait {_seconds(self.longest)}")
        if self.cost:
            facts.append(f"about ${self.cost:,.2f}" if self.cost >= 0.005 else "less than $0.01")
        if self.unpriced:
            is_all = self.unpriced == self.answers.total()
            which = "" if is_all else f" of {pluralize(self.unpriced, 'answer')}"
            facts.append(f"price{which} unknown")
        return ", ".join(facts)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 99.5 else f"{seconds / 60:.0f} min"
