"""How long providers took to answer, in the state, by the fingerprint of provider and model."""

from typing import Any, Final

from ccfallback.policy.latency import Digest
from ccfallback.state.sections import Section


def _parse(raw: Any) -> dict[str, Any]:
    try:
        Digest.from_json(raw)
    except (AttributeError, KeyError) as error:
        raise ValueError("not a digest") from error
    return dict(raw)


LATENCIES: Final = Section("latencies", _parse, dict[str, Any], most=64)
"""An entry is what `Digest.to_json` has made: a digest itself changes while a thread writes."""
