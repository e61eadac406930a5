"""Language models behind one interface: read a prompt, write a target."""

from predgen.backbones.backbone import Backbone, Capabilities
from predgen.backbones.base import LayerStates, Memory, Written
from predgen.backbones.loading import default_template, load_backbone, new_backbone, read_shape, width_of
from predgen.backbones.sources import Source, find_local, find_source, is_for_trying

__all__ = [
    "Backbone",
    "Capabilities",
    "LayerStates",
    "Memory",
    "Source",
    "Written",
    "default_template",
    "find_local",
    "find_source",
    "is_for_trying",
    "load_backbone",
    "new_backbone",
    "read_shape",
    "width_of",
]
