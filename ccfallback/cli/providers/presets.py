"""`providers presets`, and how a preset completes `providers add`."""

from dataclasses import asdict
from typing import Any

import typer

from ccfallback.cli.console import Table
from ccfallback.cli.options import Json
from ccfallback.cli.session import nearest, session_of
from ccfallback.errors import ConfigError


def list_presets(ctx: typer.Context, as_json: Json = False) -> None:
    """List the providers that need only a key."""
    from ccfallback.config.presets import presets

    rows = [(p.name, p.format, p.base_url, p.key_url or "none") for p in presets().values()]
    shown = [asdict(preset) for preset in presets().values()]
    for each in shown:
        each["model_mapping"] = each.pop("models")
    header = ("name", "format", "endpoint", "get a key at")
    session_of(ctx).console.emit({"presets": shown}, lambda: Table(rows, header))


def preset_names(incomplete: str) -> list[str]:
    """Names of presets that start as typed."""
    from ccfallback.config.presets import presets

    return [name for name in presets() if name.startswith(incomplete)]


def filled_in(changes: dict[str, Any], name: str) -> dict[str, Any]:
    """Changes completed with what a preset knows; what was given has priority."""
    from ccfallback.config.presets import presets

    preset = presets().get(name)
    if preset is None:
        raise ConfigError(
            f"there is no preset {name}",
            nearest(name, presets()) or "`ccfallback providers presets` lists them",
        )
    if preset.placeholders and "base_url" not in changes:
        example = preset.url(**{key: f"my-{key}" for key in preset.placeholders})
        raise ConfigError(
            f"the URL of {preset.title} differs from user to user",
            f"give yours, as in --base-url {example}",
        )
    models = {**preset.models, **changes.get("model_mapping", {})}
    known = {
        "base_url": preset.base_url,
        "format": preset.format,
        "auth_header": preset.auth_header,
        **preset.quirks,
    }
    return {**known, **changes, "model_mapping": models}
