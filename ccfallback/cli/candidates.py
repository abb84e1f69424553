"""What the Tab key offers: the candidates for the word under the cursor, in the shell's own form.

The commands and their options come from `candidates.json`, which is made from the commands
themselves (`python -m ccfallback.cli.completions`). So a Tab imports neither them nor the library
that parses them, and what it does import, it imports where it is needed. It never prints an error.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

TREE: Final = f"{__file__.rpartition('.')[0]}.json"

PROVIDERS: Final = "@providers"
NOTES: Final = "@notes"
PROVIDER_KEYS: Final = "@provider-keys"
COMMANDS: Final = "@commands"
"""What stands for the names of providers, the notes of access tokens, the keys of each provider,
and the commands below the words before, because only the moment of the Tab knows them."""

PRIMARY: Final = "anthropic-primary"


class Candidate(NamedTuple):
    """A word that may stand under the cursor."""

    word: str
    help: str = ""


class Line(NamedTuple):
    """The command line as far as it is typed."""

    command: Mapping[str, Any]
    """The command that it has reached, as `candidates.json` has it."""
    options: Mapping[str, str]
    """The options before, with their values."""
    arguments: Sequence[str]
    pending: str | None = None
    """The option whose value comes next."""
    only_arguments: bool = False
    """Whether `--` stands before."""


def answer(environ: Mapping[str, str], variable: str) -> int:
    """Print the candidates for the shell that asks; returns the exit code."""
    import json

    shell = environ[variable].removeprefix("complete_")
    before, word = split(shell, environ)
    try:
        with open(TREE, "rb") as file:  # noqa: PTH123  (pathlib takes as long as all the rest)
            tree = json.load(file)
        found = [*find(tree, before, word, environ)]
    except Exception:  # A Tab that finds nothing is better than one that prints a traceback.
        found = []
    if shell == "fish" and environ.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return 0 if found else 1
    if text := SHELLS.get(shell, _for_bash)(found):
        print(text)  # noqa: T201  (the shell is the only reader, and no console is needed)
    return 0


def split(shell: str, environ: Mapping[str, str]) -> tuple[list[str], str]:
    """The words before the one under the cursor, and that one as far as it is typed."""
    if shell == "bash":
        words = _words(environ.get("COMP_WORDS", ""))
        at = int(environ.get("COMP_CWORD", "0"))
        return words[1:at], words[at] if at < len(words) else ""
    line = environ.get("_TYPER_COMPLETE_ARGS", "")
    words = _words(line)[1:]
    if shell in ("powershell", "pwsh"):
        word = environ.get("_TYPER_COMPLETE_WORD_TO_COMPLETE", "")
        return words[:-1] if word else words, word
    if not words or line[-1].isspace():
        return words, ""
    return words[:-1], words[-1]


def _words(line: str) -> list[str]:
    """The words of a line, of which the last one may have an open quote."""
    if not set(line).intersection("'\"\\"):
        return line.split()
    import shlex

    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words += lexer
    except ValueError:
        words.append(lexer.token)
    return words


def find(
    tree: Mapping[str, Any], before: Sequence[str], word: str, environ: Mapping[str, str]
) -> Iterator[Candidate]:
    """The candidates for a word after others."""
    line = parse(tree["root"], before)
    options = line.command["options"]
    if line.pending is None and word.startswith("-") and not line.only_arguments:
        for names, text, _, repeats, _ in options:
            if repeats or line.options.keys().isdisjoint(names):
                yield from (Candidate(name, text) for name in names if name.startswith(word))
        return
    if line.pending is not None:
        offered = next(found for names, _, _, _, found in options if line.pending in names)
    elif line.command["commands"]:
        # After a word that is not a command there is nothing to offer.
        below = () if line.arguments else line.command["commands"].items()
        yield from (Candidate(name, each["help"]) for name, each in below if name.startswith(word))
        return
    else:
        kinds = line.command["arguments"]
        # The last argument may stand several times; only then the list has more than its place.
        place = min(len(line.arguments), len(kinds) - 1)
        if place < 0 or (place < len(line.arguments) and not kinds[place]["repeats"]):
            return
        offered = kinds[place]["offered"]
    given = line.arguments if line.pending is None else ()
    for each in _expand(tree, offered, line, environ):
        if each.startswith(word) and each not in given:
            yield Candidate(each)


def parse(root: Mapping[str, Any], words: Sequence[str]) -> Line:
    """The line of these words."""
    line = Line(root, {}, ())
    for word in words:
        if line.pending is not None:
            line = line._replace(options={**line.options, line.pending: word}, pending=None)
        elif word == "--" and not line.only_arguments:
            line = line._replace(only_arguments=True)
        elif word.startswith("-") and not line.only_arguments:
            name, equals, value = word.partition("=")
            takes = any(name in names and takes for names, _, takes, *_ in line.command["options"])
            line = line._replace(options={**line.options, name: value})
            if takes and not equals:
                line = line._replace(pending=name)
        elif word in line.command["commands"]:
            line = line._replace(command=line.command["commands"][word])
        else:
            line = line._replace(arguments=(*line.arguments, word))
    return line


def _expand(
    tree: Mapping[str, Any], offered: Sequence[str], line: Line, environ: Mapping[str, str]
) -> Iterator[str]:
    for each in offered:
        if each == COMMANDS:
            yield from _below(tree["root"], line.arguments)
        elif not line.arguments or COMMANDS not in offered:
            yield from _named(tree, each, line, environ) if each.startswith("@") else (each,)


def _below(command: Mapping[str, Any], words: Sequence[str]) -> Iterator[str]:
    for word in words:
        command = command["commands"].get(word, {"commands": {}})
    yield from command["commands"]


def _named(
    tree: Mapping[str, Any], kind: str, line: Line, environ: Mapping[str, str]
) -> Iterator[str]:
    """What the configuration names."""
    import tomllib
    from pathlib import Path

    from ccfallback import paths

    given = line.options.get("--config")
    file = paths.resolve(Path(given) if given else None, environ=environ).config
    try:
        table = tomllib.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        table = {}
    if kind == NOTES:
        yield from (each["note"] for each in table.get("tokens", ()) if each.get("note"))
        return
    names = [each["name"] for each in table.get("providers", ())]
    if kind == PROVIDERS:
        yield from (PRIMARY, *names)
    else:
        yield from (f"providers.{name}.{key}" for name in names for key in tree["provider_keys"])


# -- The form that each shell reads


def _for_bash(found: Sequence[Candidate]) -> str:
    return "\n".join(each.word for each in found)


def _for_zsh(found: Sequence[Candidate]) -> str:
    if not found:
        return "_files"
    pairs = (
        f'"{_escape(each.word)}":"{_escape(each.help)}"' if each.help else f'"{_escape(each.word)}"'
        for each in found
    )
    return "_arguments '*: :((" + "\n".join(pairs) + "))'"


def _escape(text: str) -> str:
    text = text.replace('"', '""').replace("'", "''").replace("$", "\\$").replace("`", "\\`")
    return text.replace(":", "\\\\:")


def _for_fish(found: Sequence[Candidate]) -> str:
    return "\n".join(f"{each.word}\t{each.help}" if each.help else each.word for each in found)


def _for_powershell(found: Sequence[Candidate]) -> str:
    return "\n".join(f"{each.word}:::{each.help or ' '}" for each in found)


SHELLS: Final = {
    "bash": _for_bash,
    "zsh": _for_zsh,
    "fish": _for_fish,
    "powershell": _for_powershell,
    "pwsh": _for_powershell,
}
