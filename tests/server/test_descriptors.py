"""The limit of open files, and the clients' share of it."""

import subprocess
import sys

import pytest

from ccfallback.server.descriptors import RESERVE, most_clients

SCRIPT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2000))
from ccfallback.server.descriptors import raise_limit
print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_the_limit_is_raised_as_far_as_allowed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2000", "2000", "2000"]


@pytest.mark.parametrize("limit", [1024, 65_536, None, 10])
def test_clients_leave_enough_for_upstreams(limit: int | None) -> None:
    count = most_clients(limit)
    assert count >= 1
    if limit is not None and limit > RESERVE:
        assert 2 * count + RESERVE <= limit
