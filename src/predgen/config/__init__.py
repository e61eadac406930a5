"""The settings of a run, checked once, in one place.

Configuration objects stay in the runs and the command line; flat values go into the mathematics.
"""

from predgen.config.command import changed_settings, command_of
from predgen.config.files import parse_yaml, read_config_file, write_config
from predgen.config.layers import SECTIONS, RunConfig, build_config, merged_layers, section_of
from predgen.config.settings import TASK_ROWS, DataSettings, FieldSettings, ModelSettings, TrainSettings
from predgen.config.values import LabelText, split_names, target_names

__all__ = [
    "SECTIONS",
    "TASK_ROWS",
    "DataSettings",
    "FieldSettings",
    "LabelText",
    "ModelSettings",
    "RunConfig",
    "TrainSettings",
    "build_config",
    "changed_settings",
    "command_of",
    "merged_layers",
    "parse_yaml",
    "read_config_file",
    "section_of",
    "split_names",
    "target_names",
    "write_config",
]
