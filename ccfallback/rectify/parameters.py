"""Wishes that a provider calls by its own names, and refuses: the client's words for them go."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from ccfallback.messages.body import Body
from ccfallback.policy.draft import RequestDraft
from ccfallback.rectify.parts import without
from ccfallback.rectify.paths import refused_paths
from ccfallback.rectify.rule import Rectifier, Refusal, Repaired

_VALUE: Final = re.compile(
    r"unsupported (?:value|parameter)s?:? (?P<first>stop|stop_sequences|parallel_tool_calls|user)\b"
    r"|\b(?P<second>parallel_tool_calls|stop_sequences)(?: parameter)? is not supported"
    r"|not support(?: the)? (?P<third>parallel_tool_calls|stop_sequences)\b"
)


def _without_stops(body: Body) -> Body:
    return body.without("stop_sequences")


def _without_parallel(body: Body) -> Body:
    return without(body, ("tool_choice", "disable_parallel_tool_use"))[0]


def _without_user(body: Body) -> Body:
    body = without(body, ("metadata", "user_id"))[0]
    return body.without("metadata") if body.get("metadata") == {} else body


_WISHES: Final[Mapping[str, tuple[Callable[[Body], Body], str]]] = {
    "stop": (_without_stops, "stop_sequences"),
    "stop_sequences": (_without_stops, "stop_sequences"),
    "parallel_tool_calls": (_without_parallel, "disable_parallel_tool_use"),
    "user": (_without_user, "user_id"),
}
"""By the provider's name: how it goes, and the client's name."""


class _Parameters:
    name = "parameters"

    def repair(self, draft: RequestDraft, refusal: Refusal) -> Repaired | None:
        """Take them out."""
        text = refusal.text
        named = [path[0] for path in refused_paths(text) if len(path) == 1]
        named += [name for match in _VALUE.finditer(text) for name in match.groups() if name]
        body, gone, learned = draft.body, [], []
        for name in dict.fromkeys(named):
            remove, ours = _WISHES.get(name, (None, ""))
            changed = remove(body) if remove is not None else body
            if changed is not body:
                body = changed
                gone.append(ours)
                learned.append(f"Unsupported parameter: {name}")
        if not gone:
            return None
        lesson = "; ".join(learned)
        return Repaired(draft.with_body(body), f"{', '.join(gone)} removed", lesson)


PARAMETERS: Final[Rectifier] = _Parameters()
