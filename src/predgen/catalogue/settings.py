"""The settings that a task declares, which the settings of a run override."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from predgen.catalogue.loading import is_file, load_task
from predgen.config import TASK_ROWS, RunConfig, build_config, merged_layers, target_names

TARGET_SETTINGS = ("kind", "labels", "label_text", "low", "high", "decimals")


def build_task_config(*layers: Mapping[str, Any]) -> RunConfig:
    """Returns the checked settings; all layers override the settings that a named task declares.

    Another target or another kind than the task's leaves out what the task declares of its target and its metric;
    other inputs leave out its template.

    Args:
        layers: as `build_config` takes them; `data.task` may be in any of them.

    Raises:
        ConfigError: values that are not allowed, or a file that is no task.
        UnknownNameError: a name that is no setting or no task.
    """
    given = merged_layers(*layers)
    name = given.get("data.task")
    if not isinstance(name, str | Path):  # which is said with whatever else is not allowed
        return build_config(*layers)
    task = load_task(name)
    layer = task.settings()
    target, kind = given.get("data.target", task.target.column), given.get("data.kind", task.target.kind)
    if target_names(target) != target_names(task.target.column) or kind != task.target.kind:
        for key in TARGET_SETTINGS:
            layer.pop(f"data.{key}")
        layer.pop("train.metric")
    if given.get("data.inputs") is not None:
        layer.pop("data.template")
    named = {} if is_file(name) else {"data.task": task.reference}
    return build_config({"data.data": TASK_ROWS, **layer}, *layers, named)
