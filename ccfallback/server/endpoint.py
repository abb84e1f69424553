"""What every endpoint of the server has in common."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import ClassVar

from ccfallback.error_codes import ErrorCode
from ccfallback.http1 import Receive, Scope, Send
from ccfallback.server.client import send_error
from ccfallback.server.context import SCOPE_KEY, Context
from ccfallback.server.services import Services


class Endpoint(ABC):
    """A raw ASGI endpoint of the server."""

    methods: ClassVar[tuple[str, ...]] = ()
    """The allowed methods; none means all."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request, or refuse its method."""
        context: Context = scope[SCOPE_KEY]
        if self.methods and scope["method"] not in self.methods:
            allowed = ", ".join(self.methods)
            allow = [(b"allow", allowed.encode())]
            message = f"Use {allowed} here"
            code = ErrorCode.UNKNOWN_PATH
            return send_error(send, context.id, 405, "invalid_request_error", message, code, allow)
        return self.answer(context, scope, receive, send)

    @abstractmethod
    async def answer(self, context: Context, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request with an allowed method."""
