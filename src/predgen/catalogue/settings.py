"""What a task sets of a run, below what the run sets itself."""

from collections.abc import Mapping
from typing import Any

from predgen.catalogue.loading import load_task
from predgen.config import RunConfig, build_config, join_names, merged_layers

TARGET_SETTINGS = ("kind", "labels", "label_text", "low", "high", "decimals")
# The settings' name of the data where a task finds its rows by itself.
TASK_ROWS = "<rows of the task>"


def build_task_config(*layers: Mapping[str, Any]) -> RunConfig:
    """Returns the checked settings; what a task declares, if one is named, stands below all layers.

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
    if name is None:
        return build_config(*layers)
    task = load_task(name)
    layer = task.settings()
    asked = {key: given.get(f"data.{key}") for key in ("target", "kind", "labels", "label_text")}
    other_target = asked["target"] is not None and join_names(asked["target"]) != task.target.column
    if other_target or asked["kind"] not in (None, task.target.kind):
        for key in TARGET_SETTINGS:
            layer.pop(f"data.{key}")
        layer.pop("train.metric")
    if given.get("data.inputs") is not None:
        layer.pop("data.template")
    reference = name if task.reference.partition("@")[0] != str(name).partition("@")[0] else task.reference
    return build_config({"data.data": TASK_ROWS, **layer}, *layers, {"data.task": reference})
