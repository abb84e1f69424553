"""The C library takes the settings, where it is one that has them."""

import platform
import subprocess
import sys


def test_the_c_library_takes_the_settings() -> None:
    code = "from ccfallback.proxy.memory import keep_freed_blocks; print(keep_freed_blocks())"
    # In a process of its own: the settings can't be taken back.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
