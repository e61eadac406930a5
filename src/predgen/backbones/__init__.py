"""Language models behind one interface: read a prompt, write a target."""

from predgen.backbones.base import Backbone, Memory, Written
from predgen.backbones.loading import Source, find_source, is_builtin, load_backbone, width_of

__all__ = ["Backbone", "Memory", "Source", "Written", "find_source", "is_builtin", "load_backbone", "width_of"]
