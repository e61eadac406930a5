"""Settings in layers: names with and without their section, one checked object, all faults in one message."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from predgen.config.settings import DataSettings, ModelSettings, Settings, TrainSettings
from predgen.errors import ConfigError, did_you_mean, unknown_name


class RunConfig(Settings):
    """Everything that decides a run."""

    data: DataSettings
    model: ModelSettings = Field(default_factory=ModelSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)

    def changed(self, **settings: Any) -> "RunConfig":
        """Returns a checked copy with other values; this one stays as it is.

        Args:
            settings: values under names as `build_config` takes them, such as `**{"train.seed": 3}`. None puts a
                setting back to its default.

        Raises:
            ConfigError: values that are not allowed, all of them in one message.
            UnknownNameError: a name that is no setting.
        """
        sections = {name: dict(getattr(self, name)) for name in SECTIONS}
        for section, name, value in _settings_in(settings):
            if value is None:
                sections[section].pop(name, None)
            else:
                sections[section][name] = value
        return _checked(sections)


SECTIONS: dict[str, type[Settings]] = {"data": DataSettings, "model": ModelSettings, "train": TrainSettings}


def section_of(key: str) -> tuple[str, str]:
    """Returns the section and the name of a setting; the section may be left out, as names are unique.

    Raises:
        UnknownNameError: no setting has this name.

    Example:
        >>> section_of("seed"), section_of("model.peft")
        (('train', 'seed'), ('model', 'peft'))
    """
    section, _, name = key.rpartition(".")
    for known, settings in SECTIONS.items():
        if name in settings.model_fields and section in ("", known):
            return known, name
    raise unknown_name("setting", key, [name for settings in SECTIONS.values() for name in settings.model_fields])


def _settings_in(layer: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Gives the section, the name and the value of each setting of a layer, which may hold whole sections."""
    for key, value in layer.items():
        if key in SECTIONS and (value is None or isinstance(value, Mapping)):
            for name, setting in (value or {}).items():
                yield *section_of(f"{key}.{name}"), setting
        else:
            yield *section_of(key), value


def merged_layers(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that layers give, unchecked, each under its section's and its own name; later ones win.

    Args:
        layers: as in `build_config`.

    Raises:
        UnknownNameError: a name that is no setting.
    """
    return {
        f"{section}.{name}": value
        for layer in layers
        for section, name, value in _settings_in(layer)
        if value is not None
    }


def build_config(*layers: Mapping[str, Any]) -> RunConfig:
    """Returns the checked settings; later layers win over earlier ones.

    Args:
        layers: each maps setting names (`seed` or `train.seed`) or whole sections to values. None means not given.

    Raises:
        ConfigError: values that are not allowed, all of them in one message.
        UnknownNameError: a name that is no setting.
    """
    sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for path, value in merged_layers(*layers).items():
        section, _, name = path.partition(".")
        sections[section][name] = value
    return _checked(sections)


def _checked(sections: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    """Returns the settings of some sections.

    Raises:
        ConfigError: values that are not allowed, all of them in one message.
    """
    try:
        return RunConfig.model_validate(sections)
    except ValidationError as error:
        faults = [_fault_line(fault) for fault in error.errors()]
        raise ConfigError("These settings are not right:\n" + "\n".join(faults)) from error


def _fault_line(fault: ErrorDetails) -> str:
    """Returns what is wrong with a setting, what was given, and the closest name where it must be one of a few."""
    name = ".".join(map(str, fault["loc"]))
    given = "" if fault["type"] == "missing" else f" (found {fault['input']!r})"
    hint = fault.get("ctx", {}).get("hint", "")
    if fault["type"] == "literal_error":
        hint = did_you_mean(str(fault["input"]), re.findall(r"'([^']*)'", fault["msg"]))
    return f"  {name}: {fault['msg']}{given}{hint}"
