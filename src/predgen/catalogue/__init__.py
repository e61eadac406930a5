"""The benchmark's tasks, and those of users: data, prompt, answer and metrics, declared in YAML."""

from predgen.catalogue.checking import Checked, check_task, example_of
from predgen.catalogue.loading import load_task, tasks
from predgen.catalogue.making import flat_table
from predgen.catalogue.rows import TaskRows, held_out_flat, local_folder, parts_of, task_rows
from predgen.catalogue.schema import Task
from predgen.catalogue.settings import build_task_config

__all__ = [
    "Checked",
    "Task",
    "TaskRows",
    "build_task_config",
    "check_task",
    "example_of",
    "flat_table",
    "held_out_flat",
    "load_task",
    "local_folder",
    "parts_of",
    "task_rows",
    "tasks",
]
