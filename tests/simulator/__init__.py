"""Tests of the simulator."""

from collections.abc import Mapping
from itertools import chain
from typing import Final

from ccfallback.simulator.faults import FAULTS, SPECIAL_FAULTS, TASK_FAULTS, ScriptedFault

BY_ID: Final[Mapping[str, ScriptedFault]] = {
    fault.id: fault
    for fault in (*FAULTS, *TASK_FAULTS, *chain.from_iterable(SPECIAL_FAULTS.values()))
}
