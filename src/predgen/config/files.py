"""Settings as YAML files."""

from pathlib import Path
from typing import Any

import yaml

from predgen.config.layers import RunConfig
from predgen.errors import ConfigError


def parse_yaml(text: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Returns what a YAML text holds.

    Args:
        text: the YAML.
        loader: what reads it.

    Raises:
        YAMLError: it is none, or a value in it cannot be read, such as a date that no calendar has.
    """
    try:
        return yaml.load(text, loader)
    except RecursionError as error:
        raise yaml.YAMLError("values in values too deeply") from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:  # of readers of single values
        raise yaml.YAMLError(f"a value that cannot be read: {error}") from error


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Returns the layer that a YAML file holds.

    Raises:
        ConfigError: the file cannot be read, or is no mapping.
    """
    try:
        loaded = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Expected a readable YAML file, found none at '{path}': {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"Expected YAML in '{path}', found a mistake: {error}.") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"Expected a mapping of settings in '{path}', found {type(loaded).__name__}.")
    return {str(key): value for key, value in loaded.items()}


def write_config(config: RunConfig, path: str | Path) -> None:
    """Writes the settings as YAML that `read_config_file` reads back."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")
