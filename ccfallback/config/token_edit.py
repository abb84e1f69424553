"""Changes to the access tokens of a configuration document; comments stay where they belong."""

from collections.abc import Collection
from typing import Final

from tomlkit import TOMLDocument

from ccfallback.config.toml_layout import Tables, arranged

TOKENS: Final = "tokens"


def add_token(document: TOMLDocument, token: str, note: str) -> None:
    """Put a token after those there are."""
    with arranged(document) as layout:
        tokens = Tables(layout, TOKENS)
        table = tokens.new()
        table["token"] = token
        if note:
            table["note"] = note
        tokens.insert(len(tokens), table)


def remove_tokens(document: TOMLDocument, places: Collection[int]) -> None:
    """Take out the tokens at these places, counted from 0."""
    with arranged(document) as layout:
        tokens = Tables(layout, TOKENS)
        for place in sorted(places, reverse=True):
            tokens.remove(place)
