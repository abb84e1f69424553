"""What the log says of one request: that it came in, and how it ended."""

from msgspec import UNSET

from ccfallback.events import records as events
from ccfallback.events.records import CLIENT_LEFT
from ccfallback.messages.body import Body
from ccfallback.messages.tokens import Usage
from ccfallback.server.attempt import AttemptResult
from ccfallback.server.bill import Bill
from ccfallback.server.chain import Chain
from ccfallback.server.context import Context
from ccfallback.server.failover_driver import FailoverDriver
from ccfallback.server.health import RequestHealth
from ccfallback.server.hints import Hints
from ccfallback.server.record import cut
from ccfallback.server.services import Services
from ccfallback.words import format_seconds

_NO_USAGE = Usage()


class RequestLog:
    """The log's records of one request, but for those of its attempts."""

    def __init__(
        self,
        services: Services,
        context: Context,
        body: Body,
        chain: Chain,
        hints: Hints,
        health: RequestHealth,
        driver: FailoverDriver,
        bill: Bill,
    ) -> None:
        self._services = services
        self._context = context
        self._body = body
        self._chain = chain
        self._hints = hints
        self._health = health
        self._driver = driver
        self._bill = bill
        self.ttft: float | None = None
        """Seconds until the beginning of the answer."""

    def start(self) -> None:
        """Log that the request has come in."""
        body, size, hints = self._body, len(self._body.raw), self._hints
        kind = "stream" if body.stream else "whole answer"
        self._services.recorder.log(
            events.RequestStart(
                model=cut(body.model),
                stream=body.stream,
                bytes=size,
                chain=self._chain.names,
                left_out=self._chain.excluded,
                session=hints.session or UNSET,
                request_class=hints.request_class or UNSET,
                agent=hints.agent or UNSET,
                token=self._context.token_label,
                client=self._context.client,
            ),
            f"{cut(body.model) or 'no model'}, {kind}, {size / 1000:.1f} kB",
            self._context.id,
        )

    def complete(self, result: AttemptResult, status: int) -> None:
        """Log that the client has a whole answer."""
        name, usage = result.provider.name, result.usage
        text = f"answered by {name} in {self._took}"
        if usage is not None and usage.output_tokens is not None:
            text += f", {usage.prompt_tokens or 0} tokens in, {usage.output_tokens} out"
        if self._context.config.notify.is_on:
            self._notify(name)
        self._log_end(events.RequestComplete(), text, result, status)

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
        name = None if result is None else result.provider.name
        if status == CLIENT_LEFT:
            answering = "" if name is None else f"; {name} was answering"
            text = f"stopped by you after {self._took}{answering}"
        elif name is not None and not message:
            text = f"{name}'s {status} is forwarded after {self._took}"
        else:
            text = f"no answer in {self._took}: {message}"
        self._log_end(events.RequestError(error=error, told=told or UNSET), text, result, status)

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
        self._services.recorder.log(
            event,
            f"{provider.label} broke off after the answer had begun: {outcome.reason}"
            + (f" ({why})" if why else ""),
            self._context.id,
        )
        message = "the connection is dropped, so that the client tries again"
        self.error(result, result.status or 200, outcome.reason, message=message)

    @property
    def _took(self) -> str:
        """How long the request has taken, and how many attempts."""
        attempts = self._driver.sent
        after = "" if attempts <= 1 else f" after {attempts} attempts"
        return f"{format_seconds(self._context.seconds)}{after}"

    def _log_end(
        self, end: events.RequestEnd, text: str, result: AttemptResult | None, status: int
    ) -> None:
        usage = _NO_USAGE if result is None else result.usage or _NO_USAGE
        end.provider = None if result is None else result.provider.name
        end.model = cut(self._body.model)
        end.status = status
        end.latency = round(self._context.seconds * 1000, 1)
        end.ttft = None if self.ttft is None else round(self.ttft * 1000, 1)
        end.attempts = self._driver.sent
        end.token = self._context.token_label
        end.stream = self._body.stream
        end.uncounted = self._driver.count_uncounted(self._health.failed) or UNSET
        end.request_class = self._hints.request_class or UNSET
        end.input_tokens, end.output_tokens = usage.input_tokens, usage.output_tokens
        end.cache_read_tokens, end.cache_write_tokens = usage.cache_read, usage.cache_write
        end.cache = usage.cache_share
        end.cost = self._bill.cost
        # A client disconnect is not an error.
        level = "info" if status == CLIENT_LEFT else None
        self._services.recorder.log(end, text, self._context.id, level)

    def _notify(self, provider: str) -> None:
        """Let the user know that another provider answers than before."""
        hints, first = self._hints, self._chain.names[0]
        # Other classes may have providers of their own, which is not a failover.
        if hints.request_class not in ("", "main"):
            return
        failed = (each for each in self._driver.failures if each.provider.name == first)
        cooling = first in self._health.cooldowns(self._chain.providers)
        reason = next((each.outcome.reason for each in failed), "cooling down" if cooling else "")
        self._services.notices.see(
            self._context.config, hints.session, self._context.id, provider, first, reason
        )
