"""Import the providers of other programs: read their files, and translate what these mean.

A file is JSON, with comments or not, YAML, SQLite, or an SQL dump. `read` and `translate` raise
`ConfigError` for a file that cannot be used.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from ccfallback.config.model import PRIMARY_NAME, PRIMARY_URL
from ccfallback.error_codes import ErrorCode
from ccfallback.errors import ConfigError
from ccfallback.words import pluralize

if TYPE_CHECKING:
    from sqlite3 import Connection

Json = Mapping[str, Any]

# -- Read a file

_DATABASE: Final = b"SQLite format 3\x00"
_DUMP: Final = "-- CC Switch"
_PRAGMAS: Final = frozenset({"foreign_keys", "user_version"})

_COMMENT: Final = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|//[^\n]*|/\*.*?\*/|\t""", re.DOTALL
)
"""A string, which stays as it is, or what JSON5 has and YAML lacks: a comment, or a tab."""


def read(program: str, data: bytes, path: Path | None) -> object:
    """The content of a program's file; `path` is its place, `None` for standard input."""
    if data.startswith(_DATABASE):
        if path is None:
            raise ConfigError("a database can't be read from standard input", "give its path")
        return _read_database(program, f"{path.resolve().as_uri()}?mode=ro")
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise _refusal(program, "is not UTF-8 text") from None
    if text.lstrip().startswith(_DUMP):
        return _read_database(program, ":memory:", dump=text)
    return _read_text(program, text)


def _read_text(program: str, text: str) -> object:
    import yaml

    try:
        # First as JSON, because YAML does not allow its tabs.
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        if text.lstrip().startswith(("{", "//", "/*")):
            text = _COMMENT.sub(_blank, text)
    try:
        found: object = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (line {mark.line + 1})"
        raise _refusal(program, f"is neither JSON nor YAML{line}") from None
    return found


def _blank(found: re.Match[str]) -> str:
    """A string as it is; a comment as its line breaks, so that line numbers stay right."""
    return found[1] if found[1] is not None else " " + "\n" * found[0].count("\n")


def _read_database(program: str, address: str, dump: str = "") -> object:
    """The content of a database, or of the one that a dump creates."""
    import sqlite3

    if program not in _READERS:
        raise _refusal(program, "is a database")
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            if dump:
                connection.set_authorizer(_authorize)
                connection.executescript(dump)
                connection.set_authorizer(None)
            connection.row_factory = sqlite3.Row
            return _READERS[program](connection)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise _refusal(program, f"can't be read: {error}") from None


def _authorize(action: int, argument: str | None, *_: str | None) -> int:
    """Confine a dump, which may contain any statement, to the database that it creates."""
    import sqlite3

    reaches_out = action in (
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_CREATE_VTABLE,
        sqlite3.SQLITE_DROP_VTABLE,
    )
    strange = action == sqlite3.SQLITE_PRAGMA and (argument or "").lower() not in _PRAGMAS
    return sqlite3.SQLITE_DENY if reaches_out or strange else sqlite3.SQLITE_OK


def _read_cc_switch(connection: "Connection") -> object:
    """The rows of cc-switch in the form of its `config.json`."""
    apps: dict[str, dict[str, Any]] = {}
    for found in connection.execute("SELECT * FROM providers"):
        row = dict(found)
        app = apps.setdefault(str(row.get("app_type")), {"current": "", "providers": {}})
        if row.get("is_current"):
            app["current"] = row.get("id")
        app["providers"][row.get("id")] = {
            "name": row.get("name"),
            "settingsConfig": msgspec.json.decode(row.get("settings_config") or "{}"),
            "meta": msgspec.json.decode(row.get("meta") or "{}"),
            "sortIndex": row.get("sort_index"),
            "inFailoverQueue": bool(row.get("in_failover_queue")),
        }
    return {"claude": {}, **apps}


def _read_claude_code_router(connection: "Connection") -> object:
    """The configuration of claude-code-router, which is one value."""
    row = connection.execute("SELECT value_json FROM app_config WHERE key = 'default'").fetchone()
    return None if row is None else msgspec.json.decode(row[0])


_READERS: Final[Mapping[str, Callable[["Connection"], object]]] = {
    "cc-switch": _read_cc_switch,
    "claude-code-router": _read_claude_code_router,
}


def _refusal(program: str, why: str) -> ConfigError:
    hint = f"check that it is {program}'s own file"
    return ConfigError(f"the file {why}", hint, code=ErrorCode.BAD_IMPORT)


# -- What the files mean: providers as `[[providers]]` tables. Best effort: what cannot be carried
#    over is listed in `omitted`, never guessed. A value that is carried over may still be wrong, as
#    a malformed URL: the schema checks it, as in every import.

_REFERENCE: Final = re.compile(r"os\.environ/(\w+)|\$(\w+)|\$\{(\w+)\}")
"""A value that is in the environment, in the three notations of these programs."""

_LONGEST_NAME: Final = 64
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")

_ENDPOINTS: Final = ("/messages", "/chat/completions")


@dataclass(slots=True)
class Foreign:
    """The providers of another program."""

    providers: list[dict[str, Any]] = field(default_factory=list)
    """As `[[providers]]` tables."""
    omitted: list[str] = field(default_factory=list)
    """What was not carried over, and why, in a few words each."""

    def add(self, name: object, url: str, key: object, *, anthropic: bool, **more: object) -> None:
        """Add a provider under a valid and unique name; empty values of `more` are not written.

        An address that is in a variable would have to be guessed: that provider is omitted.
        """
        if variable := _variable(url):
            self.omit(name, f"its address is in the variable {variable}, and must be a URL here")
            return
        taken = {PRIMARY_NAME, *(each["name"] for each in self.providers)}
        plain = _NOT_IN_A_NAME.sub("-", str(name)).strip("-")[:_LONGEST_NAME] or "provider"
        free, number = plain, 1
        while free in taken:
            number += 1
            free = f"{plain[: _LONGEST_NAME - 1 - len(str(number))]}-{number}"
        variable = _variable(key)
        given = {
            "name": free,
            "base_url": url,
            "format": "" if anthropic else "openai",
            "api_key_env": variable,
            "api_key": "" if variable or not isinstance(key, str) else key,
            **more,
        }
        self.providers.append({key: value for key, value in given.items() if value})

    def omit(self, what: object, why: str) -> None:
        """Record that something is not carried over."""
        self.omitted.append(f"{what}: {why}")

    def omit_others(self, found: Json, read: Iterable[str]) -> None:
        """Record the members of a file that were not read."""
        if others := [str(key) for key in found if key not in read]:
            self.omit(", ".join(others), "settings of that program, not of a provider")


def claude_code_router(found: Json) -> Foreign:
    """The `Providers` of claude-code-router: the default route first, then its fallbacks in order.

    Up to version 2 a provider has `api_base_url`, which is its endpoint, `api_key`, `models` and
    `transformer`, and `Router` assigns models to purposes. From version 3 on it has `baseUrl`,
    `apiKey` or `credentials`, and `type`, its protocol.
    """
    foreign = Foreign()
    router, fallback = _table(found, "Router"), _table(found, "fallback")
    entries = _tables(found.get("Providers", found.get("providers")))
    names = [str(entry.get("name")) for entry in entries]
    chain = [route for route in _router_chain(found, names) if route[0]]
    models = dict(reversed(chain))  # The first model of a provider counts.
    small, background = _router_route(router.get("background"), names)
    places = {name: place for place, name in enumerate(dict(chain))}
    entries.sort(key=lambda entry: places.get(str(entry.get("name")), len(places)))
    for entry in entries:
        name = str(entry.get("name"))
        mapping = {"*haiku*": background} if small == name and background else {}
        _add_router_provider(foreign, name, entry, models.get(name, ""), mapping)
    read = ("Providers", "providers", "Router", "fallback", "preferredProvider")
    foreign.omit_others(found, read)
    used = ("default", "background", "fallback")
    if roles := [str(role) for role in router if role not in used and router[role]]:
        foreign.omit("Router", f"no routing by {', '.join(roles)}")
    if roles := [str(role) for role in fallback if role != "default" and fallback[role]]:
        foreign.omit(
            "fallback", f"one chain serves all requests, without one for {', '.join(roles)}"
        )
    return foreign


_OTHER_FORMATS: Final = frozenset({
    "gemini", "gemini-cli", "qwen-cli", "rovo-cli", "vertex-gemini", "vertex-claude",
    "openai-responses", "openai-response", "openai_responses", "gemini_generate_content",
    "gemini_interactions",
})  # fmt: skip
"""Transformers and protocols of claude-code-router for formats that ccfallback does not speak."""

_ANTHROPIC_TRANSFORMERS: Final = frozenset({"anthropic", "anthropic_messages"})
_KNOWN_TRANSFORMERS: Final = _ANTHROPIC_TRANSFORMERS | {"openai_chat_completions"}
_ROUTER_KEYS: Final = ("api_key", "apiKey", "apikey")


def _router_chain(found: Json, names: list[str]) -> Iterator[tuple[str, str]]:
    """The providers in the order they are tried, each with its model."""
    default = _table(found, "Router").get("default")
    yield _router_route(default or _table(found, "profile", "claudeCode").get("model"), names)
    for model in _list(_table(found, "fallback").get("default")):
        yield _router_route(model, names)
    fallback = _table(found, "Router").get("fallback")
    for model in _list(_table(fallback).get("models")) or [fallback]:
        yield _router_route(model, names)
    yield str(found.get("preferredProvider") or ""), ""


def _router_route(value: object, names: list[str]) -> tuple[str, str]:
    """Provider and model of a route, `openrouter,some/model` or `openrouter/some/model`."""
    text = value if isinstance(value, str) else ""
    name, comma, model = text.partition(",")
    if comma:
        return name.strip(), model.strip()
    longest = max((name for name in names if text.startswith(f"{name}/")), key=len, default="")
    return longest, text[len(longest) + 1 :] if longest else ""


def _add_router_provider(
    foreign: Foreign, name: str, entry: Json, model: str, mapping: dict[str, str]
) -> None:
    transformer = _table(entry, "transformer")
    uses = _list(transformer.get("use"))
    # A transformer with options is a list that starts with its name.
    used = [_list(use)[0] if _list(use) else use for use in uses]
    used = [use.lower() for use in used if isinstance(use, str)]
    protocol = str(entry.get("type") or "").lower()
    if other := next((use for use in (*used, protocol) if use in _OTHER_FORMATS), None):
        foreign.omit(name, f"{other} is for a format that ccfallback does not speak")
        return
    url = _first(entry, "api_base_url", "baseUrl", "baseurl")
    if not url:
        foreign.omit(name, "it has no address")
        return
    is_endpoint = urlsplit(url).path.rstrip("/").endswith("/messages")
    anthropic = is_endpoint or not _ANTHROPIC_TRANSFORMERS.isdisjoint((*used, protocol))
    models = [str(each) for each in _list(entry.get("models"))]
    if model or models:
        mapping["*"] = model or models[0]
    if rest := [each for each in models if each not in mapping.values()]:
        foreign.omit(name, f"models to which nothing is mapped: {', '.join(rest)}")
    if unknown := [use for use in used if use not in _KNOWN_TRANSFORMERS]:
        foreign.omit(name, f"transformers ({', '.join(unknown)}); see `quirks` if it refuses")
    if partial := [str(key) for key in transformer if key != "use"]:
        foreign.omit(name, f"transformers for some of its models only ({', '.join(partial)})")
    if _table(entry, "extraBody"):
        foreign.omit(name, "extraBody; see `quirks.extra_body`")
    enabled = [
        each for each in _tables(entry.get("credentials")) if each.get("enabled") is not False
    ]
    keys = [key for each in (entry, *enabled) if (key := _first(each, *_ROUTER_KEYS))]
    if (others := len(set(keys)) - 1) > 0:
        foreign.omit(name, f"{pluralize(others, 'more key')}; a provider has one here")
    by_bearer = any(_table(option).get("UseBearer") for use in uses for option in _list(use))
    foreign.add(
        name,
        url,
        keys[0] if keys else "",
        anthropic=anthropic,
        model_mapping=mapping,
        auth_header="Authorization" if anthropic and by_bearer else "",
        headers=_headers(entry.get("extraHeaders")),
        disabled=entry.get("enabled") is False,
    )


def cc_switch(found: Json) -> Foreign:
    """The Claude providers of cc-switch, from its `config.json` or from the rows of its database.

    The active one comes first, then the failover queue, then the others in the order of its list.
    `settingsConfig` of a provider is what cc-switch writes into Claude Code's settings: its `env`
    has the address and the key. `meta` has more: `apiFormat`, and `isFullUrl` for an endpoint.
    """
    foreign = Foreign()
    claude = _table(found.get("claude", found))
    listed = claude.get("providers")
    rows: list[Json] = (
        [{"id": key, **_table(row)} for key, row in listed.items()]
        if isinstance(listed, Mapping)
        else _tables(listed)
    )
    active = claude.get("current")
    has_queue = any(row.get("inFailoverQueue") for row in rows)

    def place(row: Json) -> tuple[bool, bool, float]:
        index = row.get("sortIndex")
        order = index if isinstance(index, int) else float("inf")
        return not (active and row.get("id") == active), not row.get("inFailoverQueue"), order

    for row in sorted(rows, key=place):
        is_other, is_out_of_queue, _ = place(row)
        _add_switch_provider(foreign, row, unused=has_queue and is_other and is_out_of_queue)
    foreign.omit_others(found, ("claude", "providers", "current", "version"))
    return foreign


_SWITCH_MODELS: Final = {
    "ANTHROPIC_DEFAULT_OPUS_MODEL": "*opus*",
    "ANTHROPIC_DEFAULT_SONNET_MODEL": "*sonnet*",
    "ANTHROPIC_DEFAULT_FABLE_MODEL": "*fable*",
    "ANTHROPIC_SMALL_FAST_MODEL": "*haiku*",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL": "*haiku*",
    "ANTHROPIC_MODEL": "*",
}
"""The models of a Claude Code environment, and which models they replace; later rows win."""

_SWITCH_KEYS: Final = (
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_API_KEY",
    "OPENROUTER_API_KEY",
    "GOOGLE_API_KEY",
)
_LONG_CONTEXT: Final = re.compile(r"\[1m\]$", re.IGNORECASE)
"""A mark that Claude Code removes before it sends the name of the model."""


def _add_switch_provider(foreign: Foreign, row: Json, *, unused: bool) -> None:
    name = row.get("name") or row.get("id")
    env, meta = _table(row, "settingsConfig", "env"), _table(row, "meta")
    wire_format = str(meta.get("apiFormat") or "anthropic")
    anthropic = wire_format == "anthropic"
    url = str(env.get("ANTHROPIC_BASE_URL") or "")
    path = urlsplit(url).path.rstrip("/")
    is_endpoint = bool(meta.get("isFullUrl"))
    managed = _table(meta, "authBinding").get("source") == "managed_account"
    if managed or meta.get("providerType") in ("github_copilot", "codex_oauth"):
        foreign.omit(name, "it uses an account that cc-switch manages")
    elif not url:
        foreign.omit(name, f"it has no ANTHROPIC_BASE_URL, so it is {PRIMARY_NAME}")
    elif not anthropic and wire_format != "openai_chat":
        foreign.omit(name, f"it speaks {wire_format}, which ccfallback does not speak")
    elif is_endpoint and not path.endswith(_ENDPOINTS):
        foreign.omit(name, f"its address is a whole endpoint that ends in {path or 'no path'}")
    else:
        if not anthropic and not is_endpoint and path and not path.endswith(("/v1", *_ENDPOINTS)):
            # cc-switch adds `/v1` after any path.
            url = urlunsplit(urlsplit(url)._replace(path=f"{path}/v1", fragment=""))
        variable = next((each for each in _SWITCH_KEYS if env.get(each)), "")
        by_bearer = anthropic and variable not in ("", "ANTHROPIC_API_KEY")
        agent = meta.get("customUserAgent")
        read = {*_SWITCH_MODELS, *_SWITCH_KEYS, "ANTHROPIC_BASE_URL"}
        if others := [str(each) for each in env if each not in read]:
            foreign.omit(name, f"variables for Claude Code itself ({', '.join(others)})")
        if unused:
            foreign.omit(name, "not in its failover queue, so it is disabled here")
        foreign.add(
            name,
            url,
            env.get(variable),
            anthropic=anthropic,
            model_mapping={
                models: _LONG_CONTEXT.sub("", str(env[key]))
                for key, models in _SWITCH_MODELS.items()
                if env.get(key)
            },
            auth_header=str(meta.get("apiKeyHeaderName") or ("Authorization" * by_bearer)),
            headers={"User-Agent": str(agent)} if agent else {},
            disabled=unused,
        )


def litellm(found: Json) -> Foreign:
    """The `model_list` of a litellm proxy: one provider for each address and key."""
    foreign = Foreign()
    credentials = {
        str(each.get("credential_name")): _table(each, "credential_values")
        for each in _tables(found.get("credential_list"))
    }
    groups: dict[tuple[str, str, str], tuple[dict[str, str], dict[str, str]]] = {}
    for entry in _tables(found.get("model_list")):
        alias, params = str(entry.get("model_name", "")), _table(entry, "litellm_params")
        credential = str(params.get("litellm_credential_name") or "")
        if credential and credential not in credentials:
            foreign.omit(alias, f"its credential {credential} is not in the file")
        address = _litellm_address(foreign, alias, {**credentials.get(credential, {}), **params})
        if address is None:
            continue
        *group, model = address
        mapping, headers = groups.setdefault((group[0], group[1], group[2]), ({}, {}))
        given = _headers(params.get("headers")) | _headers(params.get("extra_headers"))
        if secret := [name for name, value in given.items() if _variable(value)]:
            foreign.omit(alias, f"headers that are in variables ({', '.join(secret)})")
        headers |= {name: value for name, value in given.items() if name not in secret}
        if "*" not in model and mapping.setdefault(alias, model) != model:
            foreign.omit(alias, f"{model} at the same address: a model is mapped to one here")
        if others := [str(each) for each in params if each not in _LITELLM_PARAMS]:
            foreign.omit(alias, f"parameters ({', '.join(others)})")
    for (vendor, url, key), (mapping, headers) in groups.items():
        if mapping:
            mapping.setdefault("*", next(iter(mapping.values())))
        anthropic = vendor == "anthropic"
        foreign.add(vendor, url, key, anthropic=anthropic, model_mapping=mapping, headers=headers)
    foreign.omit_others(found, ("model_list", "credential_list"))
    return foreign


_CLOUDS: Final = frozenset({
    "azure", "azure_ai", "bedrock", "bedrock_converse", "chatgpt", "databricks", "github_copilot",
    "sagemaker", "sagemaker_chat", "snowflake", "vertex_ai", "vertex_ai_beta", "watsonx",
})  # fmt: skip
"""Vendors whose address or login ccfallback cannot take from the file."""

_LITELLM_PARAMS: Final = frozenset({
    "model", "api_base", "base_url", "api_key", "custom_llm_provider", "litellm_credential_name",
    "extra_headers", "headers",
})  # fmt: skip
"""The `litellm_params` that are read."""


def _litellm_address(
    foreign: Foreign, alias: str, params: dict[str, Any]
) -> tuple[str, str, str, str] | None:
    """Vendor, URL, key and model of an entry; `None` where one is unknown."""
    from ccfallback.config.presets import presets

    whole = str(params.get("model", ""))
    vendor, slash, model = whole.partition("/")
    if own := str(params.get("custom_llm_provider") or ""):
        vendor, model = own, whole.removeprefix(f"{own}/")
    elif not slash:
        model = vendor
        vendor = "anthropic" if vendor.startswith("claude") else "openai"
    preset = presets().get(f"{vendor}-openai", presets().get(vendor))
    url, variable = _first(params, "api_base", "base_url"), ""
    if vendor == "anthropic":
        url, variable = url or PRIMARY_URL, "ANTHROPIC_API_KEY"
    elif preset is not None:
        variable = preset.key_env
        if not url and preset.format == "openai" and not preset.placeholders:
            url = preset.base_url
    if vendor in _CLOUDS:
        foreign.omit(alias, f"{vendor} has its own kind of login")
        return None
    if not url:
        foreign.omit(alias, f"the address of {vendor} is unknown; it has no api_base")
        return None
    return vendor, url, str(params.get("api_key") or (variable and f"${variable}")), model


def _variable(value: object) -> str:
    """The environment variable that a value refers to; empty for the value itself."""
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return "" if found is None else next(filter(None, found.groups()))


def _table(value: object, *path: str) -> Json:
    """The table at a path of keys; an empty one where there is none."""
    for key in path:
        value = _table(value).get(key)
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _tables(value: object) -> list[Json]:
    """The tables in a list."""
    return [entry for entry in _list(value) if isinstance(entry, Mapping)]


def _first(table: Json, *keys: str) -> str:
    """The first value that is set, as a text."""
    return next((str(table[key]) for key in keys if table.get(key)), "")


def _headers(value: object) -> dict[str, str]:
    """The headers in a table whose values are texts."""
    return {str(name): text for name, text in _table(value).items() if isinstance(text, str)}


PROGRAMS: Final[Mapping[str, Callable[[Json], Foreign]]] = {
    "claude-code-router": claude_code_router,
    "cc-switch": cc_switch,
    "litellm": litellm,
}
"""The programs whose files can be imported."""


def translate(program: str, found: object) -> Foreign:
    """The providers in a decoded file of a program. Raises `ConfigError` if there are none."""
    foreign = PROGRAMS[program](_table(found))
    if not foreign.providers:
        why = f" ({'; '.join(foreign.omitted)})" if foreign.omitted else ""
        raise ConfigError(
            f"the file has no provider of {program} that can be imported{why}",
            "check that it is that program's own file",
            code=ErrorCode.BAD_IMPORT,
        )
    return foreign
