"""`python -m tests.simulation`: see `command`."""

import sys

from tests.simulation.seams import install

install()

from tests.simulation.command import main  # noqa: E402  # the clocks have to be replaced before

sys.exit(main(sys.argv[1:]))
