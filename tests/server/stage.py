"""A proxy in front of a provider that fails in every way and one that is well."""

from dataclasses import dataclass
from time import time
from typing import Any

import httpx

from ccfallback.files import locked
from ccfallback.policy.breaker import BreakerState
from ccfallback.simulator.faults import ScriptedFault, UnreachableAddresses
from ccfallback.simulator.scripted import ScriptedUpstream
from ccfallback.simulator.scripted_format import ANTHROPIC
from ccfallback.state.file import StateFile
from tests.conftest import RunningProxy

TOOL = {"name": "Read", "description": "reads", "input_schema": {"type": "object"}}
ASK: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 10,
    "tools": [TOOL],
    "messages": [{"role": "user", "content": "hi"}],
}
HASTY = "timeouts = { connect = 0.2, first_byte = 0.3, non_streaming = 0.3, idle = 0.3 }\n"
"""For whoever fails by being slow; a busy machine may make anybody else so slow, too."""


@dataclass
class Stage:
    """A proxy in front of a provider that fails and one that is well; the faults change."""

    proxy: RunningProxy
    faulty: ScriptedUpstream
    well: ScriptedUpstream
    elsewhere: UnreachableAddresses

    def set(
        self, fault: ScriptedFault, wire_format: str, *, primary: bool, hasty: bool = True
    ) -> str:
        """Let one provider have the fault from now on; gives its name."""
        self.faulty.script(fault.script(wire_format))
        self.well.script(ANTHROPIC.works())
        url = self.elsewhere.url(fault.place, self.faulty.url)
        if primary:
            config = f'[primary]\nbase_url = "{url}"\n'
        else:
            config = (
                '[primary]\ndisabled = true\n[[providers]]\nname = "faulty"\n'
                f'base_url = "{url}"\nformat = "{wire_format}"\n'
            )
        config += HASTY if hasty else ""
        config += f'[[providers]]\nname = "well"\nbase_url = "{self.well.url}"\n'
        paths = self.proxy.paths
        paths.config.write_text(config)
        # Under its lock: the success of a moment ago may still be on its way there, with all else.
        with locked(paths.state):
            paths.state.unlink(missing_ok=True)
        self.proxy.records.clear()
        return "anthropic-primary" if primary else "faulty"

    def failed_before(self, name: str, failures: int) -> None:
        """Let a provider have failed so often in a row, long ago."""
        known = BreakerState(failures=failures, last_failure=time() - 600, reason="before")
        # Under the file's lock: the success of a moment ago may still be on its way there.
        StateFile(self.proxy.paths.state).update(lambda _: {name: known})

    def ask(self, *, stream: bool) -> httpx.Response:
        """One request, its answer read to the end."""
        return httpx.post(
            f"{self.proxy.url}/v1/messages",
            json={**ASK, "stream": stream},
            headers={"x-api-key": "users-key"},
            timeout=30,
        )
