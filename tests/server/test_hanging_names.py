"""While lookups of names hang, a provider that can be reached is reached."""

import shutil
import subprocess
import sys

import msgspec
import pytest

from tests.server.hanging_names import CLIENTS


def test_a_living_fallback_is_reached_while_the_name_of_the_primary_hangs() -> None:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("needs `unshare` and `ip`")
    namespaces = ["unshare", "--mount", "--net"]
    bind = ["mount", "--bind", "/etc/resolv.conf", "/etc/resolv.conf"]
    if subprocess.run([*namespaces, *bind], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces may be made here")
    done = subprocess.run(
        [*namespaces, sys.executable, "-m", "tests.server.hanging_names"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert msgspec.json.decode(done.stdout) == [[200, "local"]] * CLIENTS
