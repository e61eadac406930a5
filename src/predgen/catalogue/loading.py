"""Tasks from YAML: the catalogue's, and those of users."""

from collections.abc import Hashable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from predgen.catalogue.schema import Task
from predgen.config import parse_yaml
from predgen.errors import ConfigError, unknown_name

FOLDER = files("predgen.catalogue") / "definitions"
SUFFIXES = (".yaml", ".yml")
# The order of the paper's tables.
ORDER = (
    *("wassa", "sick", "stsb", "lcp", "clear", "humicroedit"),
    *("boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa", "sst2"),
    *("multiarith", "addsub", "singleeq", "svamp", "gsm8k", "mawps"),
)


def tasks() -> list[str]:
    """Returns the names of the catalogue's tasks."""
    return list(ORDER)


def load_task(name: str | Path) -> Task:
    """Returns a task of the catalogue, or of a YAML file.

    Args:
        name: a task's name, also with its version (`boolq@1`), or the path of a YAML file.

    Raises:
        ConfigError: the file cannot be read, or is no task; or another version is asked for.
        UnknownNameError: no task has this name.

    Example:
        >>> load_task("boolq").target.label_text
        {'true': 'true', 'false': 'false'}
    """
    if is_file(name):
        return read_task(Path(name).expanduser())
    known, at, version = str(name).partition("@")
    if known not in ORDER:
        raise unknown_name("task", str(name), ORDER)
    task = _of_catalogue(known)
    if at and version != str(task.version):
        raise ConfigError(
            f"Expected version {task.version} of the task '{known}', found '{version}'. Leave the version out, or "
            "use the release of PredGen that had it."
        )
    return task


def is_file(name: str | Path) -> bool:
    """Returns whether a task's name names a YAML file."""
    return Path(name).suffix.lower() in SUFFIXES


@cache
def _of_catalogue(name: str) -> Task:
    return parse_task((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")


def read_task(path: Path) -> Task:
    """Returns the task of a YAML file.

    Raises:
        ConfigError: the file cannot be read, or is no task.
    """
    try:
        return parse_task(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(
            f"Expected a readable YAML file of a task, found none at '{path}': {error.strerror}. Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"Expected YAML in UTF-8 in '{path}', found other bytes: {error}. Save it again.") from error


def parse_task(text: str, where: str) -> Task:
    """Returns the task that a YAML text describes.

    Args:
        text: the YAML.
        where: what it is called in messages.

    Raises:
        ConfigError: all mistakes in one message, each with where it stands.
    """
    try:
        loaded = parse_yaml(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"Expected YAML in '{where}', found a mistake: {error}. Correct it.") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"Expected a mapping in '{where}', found {type(loaded).__name__}. See docs/tasks.md.")
    try:
        return Task.model_validate(loaded)
    except ValidationError as error:
        faults = "\n".join(f"  {_path_of(fault['loc'])}{_said(fault)}" for fault in error.errors())
        raise ConfigError(f"Expected a task in '{where}', found mistakes:\n{faults}\nSee docs/tasks.md.") from error


class _Loader(yaml.SafeLoader):
    """Reads YAML and refuses a key that stands twice, of which the first would be lost without a word."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key that is no plain text", key_node.start_mark)
        if key in mapping:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' twice", key_node.start_mark)
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _path_of(location: tuple[int | str, ...]) -> str:
    """Returns where in the file a mistake is; nothing where its own words say it."""
    return ".".join(str(key) for key in location) + ": " if location else ""


def _said(fault: Any) -> str:
    """Returns the fault, and the value that was found."""
    said = str(fault["msg"]).removeprefix("Value error, ")
    shown = fault["type"] not in ("missing", "value_error")
    return f"{said} (found {str(fault['input'])[:80]!r})" if shown else said
