"""List prices of models: data with a date, which `policy.spend` reads."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("prices.toml")


@cache
def load() -> Mapping[str, Any]:
    """The content of the file of prices."""
    with FILE.open("rb") as file:
        return tomllib.load(file)
