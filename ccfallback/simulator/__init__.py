"""Scripted upstreams that answer, fail or misbehave on real sockets: for `drill`, `demo` and tests.

How to add a wire format
------------------------
Write a module with a `ScriptedFormat`, see `scripted_format`, and add it to `SCRIPTED_FORMATS`.
Drill, faults and tests find it there by the name that providers have in the configuration.
"""

from collections.abc import Mapping
from typing import Final

from ccfallback.simulator.scripted_bedrock import BEDROCK
from ccfallback.simulator.scripted_format import ANTHROPIC, ScriptedFormat
from ccfallback.simulator.scripted_openai import OPENAI
from ccfallback.simulator.scripted_vertex import VERTEX

SCRIPTED_FORMATS: Final[Mapping[str, ScriptedFormat]] = {
    "anthropic": ANTHROPIC,
    "openai": OPENAI,
    "vertex": VERTEX,
    "bedrock": BEDROCK,
}
"""Every format by its name in the configuration."""
