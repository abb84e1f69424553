"""The topics of `ccfallback help`; each is a page in `pages/`, and a man page."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ccfallback.cli.help.markup import Block, Heading, parse

_PAGES: Final = Path(__file__).with_name("pages")


class Topic(NamedTuple):
    """What the index and the man page say about a page."""

    title: str
    section: int
    """Of the manual: 5 for files, 7 for everything else."""


GROUPS: Final[Mapping[str, Mapping[str, Topic]]] = {
    "Settings": {
        "config": Topic("every key of the configuration, its default and its meaning", 5),
        "providers": Topic("presets, clouds, logins, the OpenAI format", 7),
        "files": Topic("where configuration, state and log are", 5),
        "env": Topic("the environment variables", 7),
    },
    "How it works": {
        "breaker": Topic("the way of a request; failures and cooldowns", 7),
        "repairs": Topic("how rejected requests are repaired, and what is remembered", 7),
        "security": Topic("what is protected, and against what", 7),
    },
    "Interfaces": {
        "http": Topic("routes, headers and errors of the proxy", 7),
        "json": Topic("the documents that `--json` prints", 7),
        "log": Topic("the events of the log", 5),
        "metrics": Topic("what Prometheus can read", 7),
        "exit-codes": Topic("the exit codes of commands", 7),
        "errors": Topic("the codes of errors, such as CCF-E012", 7),
    },
    "Operation": {
        "maintenance": Topic("monthly checks, upgrade, downgrade, uninstall", 7),
        "team": Topic("one proxy for several people or machines", 7),
        "development": Topic("the code: its parts, how to add to it, its words", 7),
    },
}
"""The topics by group, in the order of the index."""

TOPICS: Final[Mapping[str, Topic]] = {
    name: topic for group in GROUPS.values() for name, topic in group.items()
}


def split(blocks: Iterable[Block]) -> dict[str, list[Block]]:
    """The blocks below each title of level 3."""
    parts: dict[str, list[Block]] = {}
    part: list[Block] = []
    for block in blocks:
        if isinstance(block, Heading):
            part = parts[block.text] = []
        else:
            part.append(block)
    return parts


def source(name: str) -> str:
    """The text of a topic's page, as written."""
    return (_PAGES / f"{name}.md").read_text("utf-8")


def read(name: str) -> list[Block]:
    """A topic's page, with the tables of the program in it."""
    # The tables need most of the program.
    from ccfallback.cli.help.tables import table

    return parse(source(name), table)
