"""Reads context windows from what servers say of their models. Pure: JSON in, tokens out.

Every server has its own place for it. What a server gives a model now comes before what the model
could have: a prompt that does not fit the first is cut or refused.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_NOW: Final = (
    # LM Studio, GET /api/v0/models
    ("loaded_context_length",),
    # LM Studio, GET /api/v1/models
    ("loaded_instances", "config", "context_length"),
    # llama.cpp, GET /props: the window of one slot
    ("default_generation_settings", "n_ctx"),
    # llama.cpp, GET /v1/models of newer versions
    ("meta", "n_ctx"),
    # vLLM and SGLang, GET /v1/models
    ("max_model_len",),
    # Groq, GET /v1/models
    ("context_window",),
    # Ollama, GET /api/ps; OpenRouter and others, GET /v1/models
    ("context_length",),
    # LM Studio, for a model that is not loaded; Mistral, GET /v1/models
    ("max_context_length",),
    # llama.cpp, GET /v1/models of older versions: what the model was trained for
    ("meta", "n_ctx_train"),
)
"""The places of the window in a description of a model, or of a server with one; best first."""

_NUM_CTX: Final = re.compile(r"^\s*num_ctx\s+(\d{1,10})\s*$", re.MULTILINE)
"""The line of Ollama's `parameters` that sets the window."""

MOST_TOKENS: Final = 1 << 31


def read_window(answer: Any, model: str = "") -> int | None:
    """The context window that a server's answer gives for a model; `None` if it does not say.

    `answer` is the decoded JSON of one of: Ollama's `POST /api/show` and `GET /api/ps`, llama.cpp's
    `GET /props`, LM Studio's `GET /api/v0/models` and `/api/v1/models`, and any `GET /v1/models`.
    Of a list, it is the entry of that model; without a name, the only entry.
    """
    entry = _entry(answer, model)
    if entry is None:
        return None
    parameters = entry.get("parameters")
    if isinstance(parameters, str) and (found := _NUM_CTX.search(parameters)):
        return _tokens(int(found[1]))
    for path in _NOW:
        sizes = [size for value in _values(entry, path) if (size := _tokens(value)) is not None]
        if sizes:
            # Of several loaded instances the smallest may get the request.
            return min(sizes)
    return None


def _entry(answer: Any, model: str) -> Mapping[str, Any] | None:
    """The description of the model: the answer itself, or an entry of the list in it."""
    if not isinstance(answer, Mapping):
        return None
    listed = answer.get("data", answer.get("models"))
    if not isinstance(listed, list):
        return answer
    entries = [each for each in listed if isinstance(each, Mapping)]
    if not model:
        return entries[0] if len(entries) == 1 else None
    # Ollama's names have a tag, which is `latest` where it is not given.
    wanted = {model, f"{model}:latest"}
    return next((each for each in entries if wanted & set(_names(each))), None)


def _names(entry: Mapping[str, Any]) -> Iterator[str]:
    for key in ("id", "model", "name", "key"):
        if isinstance(name := entry.get(key), str):
            yield name


def _values(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """The values at a path; a list on the way stands for each of its items."""
    if isinstance(value, list):
        for item in value:
            yield from _values(item, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping):
        yield from _values(value.get(path[0]), path[1:])


def _tokens(value: Any) -> int | None:
    """A number of tokens; 0 and nonsense mean that it is unknown."""
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return value if is_count and 0 < value <= MOST_TOKENS else None
