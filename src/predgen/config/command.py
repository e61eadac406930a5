"""The command line of some settings, for people who want to do it again."""

import shlex
from collections.abc import Sequence
from typing import Any

import yaml

from predgen.config.layers import SECTIONS, RunConfig
from predgen.config.settings import TASK_ROWS


def changed_settings(config: RunConfig) -> dict[str, Any]:
    """Returns the settings that are not the defaults, under their whole names."""
    found = {}
    for section, kind in SECTIONS.items():
        given = getattr(config, section).model_dump(mode="json")
        for name, field in kind.model_fields.items():
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            default = list(default) if isinstance(default, tuple) else default
            if given[name] != default:
                found[f"{section}.{name}"] = given[name]
    return found


def command_of(config: RunConfig, command: str = "fit", options: Sequence[str] = ("--out", "model")) -> str:
    """Returns the command line of some settings.

    Args:
        config: the settings.
        command: what it does.
        options: its options that are no settings.
    """
    settings = changed_settings(config)
    data, target = settings.pop("data.data"), settings.pop("data.target")
    parts = ["predgen", command, *([] if data == TASK_ROWS else [data])]
    parts += ["--target", target if isinstance(target, str) else ",".join(target)]
    for name, value in settings.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).removesuffix("\n...\n")
        parts += ["--set", f"{name}={text.strip()}"]
    return shlex.join([*parts, *options])
