"""A provider that knows only the plain Messages API, and reports one fault at a time."""

from collections.abc import Iterator
from typing import Any

from ccfallback.simulator import scripted
from ccfallback.simulator.scripted import Received, Script

KNOWN = {
    "model", "messages", "system", "max_tokens", "stream", "tools", "tool_choice", "metadata",
    "stop_sequences", "temperature", "top_p", "top_k", "thinking",
}  # fmt: skip
TOOL = {"name", "description", "input_schema", "cache_control", "type"}
MOST_TOKENS = 8192


def refusals(request: Received) -> Iterator[str]:
    """Everything that this provider has against a request, in the order in which it looks."""
    flags = [flag.strip() for flag in (request.header("anthropic-beta") or "").split(",") if flag]
    if flags:
        named = ", ".join(f"`{flag}`" for flag in flags)
        yield f"Unexpected value(s) {named} for the `anthropic-beta` header."
    body: dict[str, Any] = request.json
    for key in body:
        if key not in KNOWN:
            yield f"{key}: Extra inputs are not permitted"
    yield from _thinking(body)
    for number, tool in enumerate(body.get("tools") or []):
        for key in tool:
            if key not in TOOL:
                yield f"tools.{number}.custom.{key}: Extra inputs are not permitted"
    for number, message in enumerate(body["messages"]):
        if message["role"] not in ("user", "assistant"):
            yield f"messages.{number}.role: Input should be 'user' or 'assistant'"
        for key in message:
            if key not in ("role", "content"):
                yield f"messages.{number}.{key}: Extra inputs are not permitted"
    if body["max_tokens"] > MOST_TOKENS:
        yield (
            f"max_tokens: {body['max_tokens']} > {MOST_TOKENS}, which is the maximum allowed "
            "number of output tokens for this model"
        )


def _thinking(body: dict[str, Any]) -> Iterator[str]:
    thinking = body.get("thinking") or {"type": "disabled"}
    if thinking["type"] not in ("enabled", "disabled"):
        yield (
            f"thinking: Input tag '{thinking['type']}' found using 'type' does not match any of "
            "the expected tags: 'disabled', 'enabled'"
        )
    for key in thinking:
        if key not in ("type", "budget_tokens"):
            yield f"thinking.{thinking['type']}.{key}: Extra inputs are not permitted"
    budget = thinking.get("budget_tokens")
    if budget is not None and budget >= body["max_tokens"]:
        yield "`max_tokens` must be greater than `thinking.budget_tokens`"


def strict(good: Script) -> Script:
    """Answers as `good` does what it has nothing against."""

    async def script(request: Received, connection: scripted.Connection) -> None:
        fault = next(refusals(request), None)
        if fault is not None:
            await scripted.error(400, "invalid_request_error", fault)(request, connection)
        else:
            await good(request, connection)

    return script
