"""The pages that a provider has searched for an answer, as a list at its end.

Models with a search of their own refer to pages by number, `[1]`, and providers name the pages in
members beside the text: OpenAI and OpenRouter in `annotations`, Perplexity and xAI in `citations`
and `search_results`, Groq in `executed_tools`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ccfallback.wire.openai.chunks import Chunk, Delta

_MOST: Final = 50
_LONGEST_URL: Final = 2000
_LONGEST_TITLE: Final = 200


class Sources:
    """The pages of one answer, each once, in the order in which they came."""

    def __init__(self) -> None:
        self._pages: dict[str, str] = {}
        self._cumulative: tuple[Any, Any] = (None, None)
        """Each chunk has all that the chunks before it had."""

    def take_chunk(self, chunk: Chunk) -> None:
        """Take what a chunk or a whole completion names."""
        self._cumulative = (
            chunk.citations or self._cumulative[0],
            chunk.search_results or self._cumulative[1],
        )

    def take_delta(self, delta: Delta) -> None:
        """Take what a message or a piece of one names."""
        for each in _mappings(delta.annotations):
            self._add(each.get("url_citation", each))
        for each in _mappings(delta.executed_tools):
            found = each.get("search_results")
            for page in _mappings(found.get("results") if isinstance(found, Mapping) else found):
                self._add(page)

    def text(self) -> str:
        """The list as text; empty if no page was named."""
        for value in self._cumulative:
            for page in value if isinstance(value, list) else ():
                self._add({"url": page} if isinstance(page, str) else page)
        lines = [
            f"[{number}] {title} ({url})" if title else f"[{number}] {url}"
            for number, (url, title) in enumerate(self._pages.items(), 1)
        ]
        return "\n".join(["\n\nSources:", *lines]) if lines else ""

    def _add(self, page: object) -> None:
        if not isinstance(page, Mapping):
            return
        url, title = page.get("url"), page.get("title")
        if not isinstance(url, str) or not _is_address(url):
            return
        title = " ".join(title.split())[:_LONGEST_TITLE] if isinstance(title, str) else ""
        if url in self._pages:
            self._pages[url] = self._pages[url] or title
        elif len(self._pages) < _MOST:
            self._pages[url] = title


def _is_address(url: str) -> bool:
    return (
        url.startswith(("https://", "http://"))
        and len(url) <= _LONGEST_URL
        and url.isprintable()
        and " " not in url
    )


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    for each in value if isinstance(value, list) else ():
        if isinstance(each, Mapping):
            yield each
