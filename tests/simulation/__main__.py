"""`python -m tests.simulation`: see `command`."""

import sys

from tests.simulation.broken import break_line
from tests.simulation.seams import install

if "--break" in sys.argv:
    break_line(sys.argv[sys.argv.index("--break") + 1])
install()

from tests.simulation.command import main  # noqa: E402  # the clocks have to be replaced before

sys.exit(main(sys.argv[1:]))
