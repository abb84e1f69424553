"""`python -m tests.pictures [--record]`."""

import sys

from tests.pictures import README, record, redraw

if "--record" in sys.argv[1:]:
    record()
README.write_text(redraw(README.read_text("utf-8")), encoding="utf-8")
