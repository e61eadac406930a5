"""Language models behind one interface: read a prompt, write a target."""

from predgen.backbones.base import Backbone, Memory, Written
from predgen.backbones.loading import (
    Source,
    default_template,
    find_local,
    find_source,
    is_builtin,
    load_backbone,
    new_backbone,
    read_shape,
    width_of,
)

__all__ = [
    "Backbone",
    "Memory",
    "Source",
    "Written",
    "default_template",
    "find_local",
    "find_source",
    "is_builtin",
    "load_backbone",
    "new_backbone",
    "read_shape",
    "width_of",
]
