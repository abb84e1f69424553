"""What the log says of one request: that it came in, and how it ended."""

from typing import TypeVar

from msgspec import UNSET

from ccfallback.events import records as events
from ccfallback.events.records import CLIENT_LEFT
from ccfallback.messages.tokens import Usage
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.bill import Bill
from ccfallback.server.chain import Chain
from ccfallback.server.failover_driver import FailoverDriver
from ccfallback.server.health import RequestHealth
from ccfallback.server.record import cut

_NO_USAGE = Usage()

E = TypeVar("E", bound=events.RequestEnd)


class RequestLog:
    """The log's records of one request, but for those of its attempts."""

    def __init__(
        self, driver: FailoverDriver, health: RequestHealth, chain: Chain, bill: Bill
    ) -> None:
        self._driver = driver
        self._health = health
        self._chain = chain
        self._bill = bill
        self.ttft: float | None = None
        """Seconds until the beginning of the answer."""

    def start(self) -> None:
        """Log that the request has come in."""
        context, body = self._driver.context, self._driver.body
        hints = context.headers.hints
        self._driver.services.recorder.log(
            events.RequestStart(
                model=cut(body.model),
                stream=body.stream,
                bytes=len(body.raw),
                chain=self._chain.names,
                left_out=self._chain.excluded,
                session=hints.session or None,
                request_class=hints.request_class or None,
                agent=hints.agent or None,
                token=context.token_label,
                client=context.client,
            ),
            request_id=context.id,
        )

    def complete(self, result: AttemptResult, status: int) -> None:
        """Log that the client has a whole answer."""
        context = self._driver.context
        if context.config.notify.is_on:
            self._notify(result.provider.name)
        end = self._end(events.RequestComplete, result, status)
        self._driver.services.recorder.log(end, request_id=context.id)

    def error(
        self,
        result: AttemptResult | None,
        status: int,
        error: str,
        *,
        message: str = "",
        told: dict[str, str] | None = None,
    ) -> None:
        """Log that the client has no whole answer; without a `message`, the error is a provider's.

        `told` has the headers of an answer of our own that say whether to try again.
        """
        end = self._end(events.RequestError, result, status)
        end.error, end.told = error, told or UNSET
        name, level = end.provider, None
        if status == CLIENT_LEFT:
            answering = "" if name is None else f"; {name} was answering"
            text = f"stopped by you after {end.took}{answering}"
            # A client disconnect is not an error.
            level = "info"
        elif name is not None and not message:
            text = f"{name}'s {status} is forwarded after {end.took}"
        else:
            text = f"no answer in {end.took}: {message}"
        self._driver.services.recorder.log(end, text, self._driver.context.id, level)

    def torn(self, result: AttemptResult) -> None:
        """Log that the answer has broken off after the commit point."""
        outcome, provider = result.outcome, result.provider
        late = None if result.stream is None else result.stream.late
        why = result.stream.late_why if result.stream is not None else ""
        kind = events.ProviderFailure if late is None else events.ProviderTimeout
        event = kind(
            provider=provider.name,
            key=provider.key.number or UNSET,
            status=result.status,
            fault=str(outcome.fault),
            reason=outcome.reason,
        )
        if late is not None and isinstance(event, events.ProviderTimeout):
            event.timeout, event.seconds, event.why = late.timeout, late.seconds, why or UNSET
        self._driver.services.recorder.log(
            event,
            f"{provider.label} broke off after the answer had begun: {outcome.reason}"
            + (f" ({why})" if why else ""),
            self._driver.context.id,
        )
        message = "the connection is dropped, so that the client tries again"
        self.error(result, result.status or 200, outcome.reason, message=message)

    def _end(self, kind: type[E], result: AttemptResult | None, status: int) -> E:
        driver, ttft = self._driver, self.ttft
        context, body = driver.context, driver.body
        usage = _NO_USAGE if result is None else result.usage or _NO_USAGE
        return kind(
            provider=None if result is None else result.provider.name,
            model=cut(body.model),
            status=status,
            latency=round(context.seconds * 1000, 1),
            ttft=None if ttft is None else round(ttft * 1000, 1),
            attempts=driver.sent,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read,
            cache_write_tokens=usage.cache_write,
            cost=self._bill.cost,
            cache=usage.cache_share,
            stream=body.stream,
            uncounted=driver.count_uncounted(self._health.failed) or UNSET,
            request_class=context.headers.hints.request_class or UNSET,
            token=context.token_label,
        )

    def _notify(self, provider: str) -> None:
        """Let the user know that another provider answers than before."""
        driver, first = self._driver, self._chain.names[0]
        hints = driver.context.headers.hints
        # Other classes may have providers of their own, which is not a failover.
        if hints.request_class not in ("", "main"):
            return
        failed = (each for each in driver.failures if each.provider.name == first)
        cooling = first in self._health.cooldowns(self._chain.providers)
        reason = next((each.outcome.reason for each in failed), "cooling down" if cooling else "")
        driver.services.notices.see(
            driver.context.config, hints.session, driver.context.id, provider, first, reason
        )
