"""What a server loads is what it needs."""

import subprocess
import sys


def test_the_server_loads_no_command_line_of_the_librarys() -> None:
    code = "import sys, ccfallback.server.serve; print({'rich', 'pygments'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_it_does_without_can_be_imported_afterwards() -> None:
    code = "import ccfallback.server.serve, pygments.lexers, httpx; print(httpx.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip()
