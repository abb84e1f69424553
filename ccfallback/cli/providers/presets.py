"""`providers presets`, and what a preset fills in: data from `core.presets`, no more."""

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from ccfallback.cli.console import Table
from ccfallback.cli.options import Json
from ccfallback.cli.session import nearest, session_of
from ccfallback.errors import ConfigError

if TYPE_CHECKING:
    from ccfallback.config.edit import ProviderChanges


def list_presets(ctx: typer.Context, as_json: Json = False) -> None:
    """List the providers that need only a key."""
    from ccfallback.config.presets import presets

    value = {
        "presets": [
            {
                "name": preset.name,
                "title": preset.title,
                "base_url": preset.base_url,
                "format": preset.format,
                "auth_header": preset.auth_header,
                "key_url": preset.key_url,
                "key_env": preset.key_env,
                "quirks": dict(preset.quirks),
                "model_mapping": dict(preset.models),
                "note": preset.note,
            }
            for preset in presets().values()
        ]
    }
    rows = [(p.name, p.format, p.base_url, p.key_url or "none") for p in presets().values()]
    header = ("name", "format", "endpoint", "a key is to be had at")
    session_of(ctx).console.emit(value, lambda: Table(rows, header))


def preset_names(incomplete: str) -> list[str]:
    """Names of presets that begin as typed."""
    from ccfallback.config.presets import presets

    return [name for name in presets() if name.startswith(incomplete)]


def filled_in(changes: "ProviderChanges", name: str) -> "ProviderChanges":
    """A change completed with what a preset knows; what was said goes first."""
    from ccfallback.config.presets import presets

    preset = presets().get(name)
    if preset is None:
        raise ConfigError(
            f"there is no preset {name}",
            nearest(name, presets()) or "`ccfallback providers presets` lists them",
        )
    if preset.placeholders and changes.base_url is None:
        example = preset.url(**{key: f"my-{key}" for key in preset.placeholders})
        raise ConfigError(
            f"{preset.title} has an address of your own",
            f"give it, as in --base-url {example}",
        )
    return replace(
        changes,
        base_url=changes.base_url or preset.base_url,
        format=changes.format or preset.format,
        auth_header=changes.auth_header or preset.auth_header,
        model_mapping={**preset.models, **(changes.model_mapping or {})} or None,
        quirks={**preset.quirks, **(changes.quirks or {})} or None,
    )
