"""The project speaks plain English: no private idiom in what a person reads.

A pattern finds a turn of phrase that a reader has to read twice. Rephrase the sentence. A sentence
that is plain all the same may carry `plain: ok` on its line, or on the last line of its string.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.usefixtures("untraced")

ROOT: Final = Path(__file__).parent.parent
ALLOWED: Final = "plain: ok"

PATTERNS: Final = {
    "a thing is not a person": r"\b(?:whoever|whomever|whom|nobody|somebody|everybody|anybody)\b",
    "a thing is not a person (who)": (
        r"(?<!person )(?<!people )(?<!user )(?<!users )(?<!someone )(?<!anyone )(?<!everyone )"
        r"(?<!reader )(?<!readers )(?<!those )\bwho (?:is|are|was|were|has|had|have|does|do|did|may"
        r"|can|will|would|comes?|came|asks?|asked|answers?|answered|cools?|fails?|failed|serves?"
        r"|sends?|sent|reads?|writes?|wants?|waits?|calls?|holds?|knows?|leaves?|left)\b"
    ),
    "he": r"\b(?:[Hh]e|[Hh]im|[Hh]is|[Hh]imself)\b(?!')",
    "is none: say what it is": (
        r"(?<![Tt]here )(?<!if )\b(?:is|are|was|were|that's) none\b|\b(?:of|with) no length\b"
    ),
    "is no X: say `is not a X`": (
        r"(?<![Tt]here )\b(?:is|are|was|were) no "
        r"(?!longer\b|more\b|such\b|different\b|later\b|other\b|one\b)[a-z]+"
    ),
    "passed by: say `skipped`": r"\bpass(?:ed|es|ing)? by\b",
    "left out": r"\b(?:left|leave|leaves|leaving) out\b",
    "mend: say `fix` or `repair`": r"\b[Mm]end(?:s|ed|ing)?\b",
    "hand on: say `pass on` or `forward`": r"\bhand(?:ed|s|ing)? on\b",
    "to be had: say `available`": r"\bto be had\b|\bcan't be had\b|\bbe had\b",
    "is to be: say `must` or `can`": (
        r"\b(?:is|are|was|were) to be (?:found|made|read|asked|seen)\b"
    ),
    "take back: say `undo` or `revert`": r"\b[Tt]ak(?:e|es|en|ing) (?:it |them )?back\b",
    "told": r"\b(?:is|was|are|were|been|be) told\b|\b(?:says|say|said|saying) so\b",
    "beside: say `besides` or `next to`": r"\b[Bb]eside (?:that|them|it)\b",
    "what came of it: say `result`": (
        r"\b[Ww]hat (?:comes|came|has come) (?:of|back|in|out|behind|before|to)\b"
    ),
    "has an eye on: say `watches`": (
        r"\bhas an eye on\b|\b[Ss]ee(?:s|ing)? to (?:it|the|that)\b|\boverheard\b|\bmanieth\b"
    ),
    "goes before": r"\bgo(?:es)? before\b|\bgo(?:es)? by (?:what|the|another)\b",
    "asked: a provider is tried, a server receives a request": (
        r"\bask(?:ed|s|ing)? (?:first|next|again|along|another|the next|whom|in turn)\b"
        r"|\bmay be asked\b"
    ),
    "makes nothing of: say `cannot read`": r"\b(?:make|made|makes) nothing of\b",
    "of ours, of its own: say whose": r"\bof (?:ours|mine|theirs|hers)\b",
    "as told, as said": r"\b(?:as|has been|had been) (?:told|said)\b",
    "lets go of: say `closes` or `releases`": r"\b[Ll]ets? go of\b",
}
COMPILED: Final = {name: re.compile(pattern) for name, pattern in PATTERNS.items()}


def pieces(path: Path) -> Iterator[tuple[int, str]]:
    """Each line that a person reads, with its number: comments and strings, or all of a text."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    if path.suffix != ".py":
        yield from ((n, line) for n, line in enumerate(lines, 1) if ALLOWED not in line)
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind not in {"COMMENT", "STRING"} and not kind.startswith("FSTRING"):
            continue
        if ALLOWED in lines[token.end[0] - 1]:
            continue
        for number, line in enumerate(token.string.splitlines(), token.start[0]):
            if ALLOWED not in lines[number - 1]:
                yield number, line


def unclear(path: Path) -> list[str]:
    """The places of a file that need another wording."""
    name = path.relative_to(ROOT).as_posix()
    return [
        f"{name}:{number}: [{pattern}] {line.strip()}"
        for number, line in pieces(path)
        if (pattern := next((p for p, found in COMPILED.items() if found.search(line)), None))
    ]


def area(path: Path) -> str:
    """The package of a module, or the file's own name."""
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "ccfallback" and len(parts) > 2 else parts[0]


TEXTS: Final = sorted(
    path
    for top in ("ccfallback", "completions", "README.md", "CHANGELOG.md")
    for path in ([ROOT / top] if (ROOT / top).is_file() else (ROOT / top).rglob("*"))
    if path.suffix in {".py", ".md", ".toml", ".1", ".bash", ".fish"}
)


@pytest.mark.parametrize("name", sorted({area(path) for path in TEXTS}))
def test_sentences_are_plain_english(name: str) -> None:
    found = [place for path in TEXTS if area(path) == name for place in unclear(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "sentence",
    [
        "Whom a request may go to, before anybody is asked how they are.",
        "a chunk that is none",
        "openrouter is passed by: it cools down",
        "mend it with `ccfallback config edit`",
        "a key is to be had at example.com",
        "That a client leaves is no trouble of ours.",
    ],
)
def test_the_old_idiom_is_found(sentence: str) -> None:
    assert any(pattern.search(sentence) for pattern in COMPILED.values())


@pytest.mark.parametrize(
    "sentence",
    [
        "The candidate providers for a request, before breaker state is considered.",
        "openrouter is skipped: it is cooling down",
        "There is no file, so there are no providers.",
        "fix it with `ccfallback config edit`",
        "A client disconnect is not an error.",
        "The value is no longer used.",
    ],
)
def test_plain_sentences_pass(sentence: str) -> None:
    assert not [name for name, pattern in COMPILED.items() if pattern.search(sentence)]


def test_a_mark_allows_a_sentence(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""Nobody."""  # plain: ok\n# Somebody.\nx = "whoever"  # plain: ok\n')
    assert [line for _, line in pieces(module)] == ["# Somebody."]
