"""The C library takes the settings, where it is one that has them."""

import platform
import subprocess
import sys


def test_the_c_library_takes_the_settings() -> None:
    code = "from ccfallback.proxy.memory import keep_freed_blocks; print(keep_freed_blocks())"
    # In a process of its own: the settings can't be taken back.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(platform.libc_ver()[0] == "glibc")


def test_what_was_loaded_at_the_start_is_not_looked_at_again() -> None:
    code = (
        "import gc; from ccfallback.proxy.memory import set_start_aside; set_start_aside();"
        "print(gc.get_freeze_count() > 1000, len(gc.get_objects()) < 1000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True True"
