"""Merges an update into the weights that it belongs to, for serving: each layer is a single product again."""

import torch
from peft.tuners.lora import LoraLayer

from predgen.adapters.rocoft import RowColumnUpdate
from predgen.backbones import Backbone
from predgen.errors import BackboneError


def merge_update(backbone: Backbone) -> None:
    """Adds the update of each linear layer to its weights; rows of added tokens stay beside theirs.

    Answers stay the same up to rounding. The weights are changed in place: do not merge into weights that another model
    uses too.

    Raises:
        BackboneError: the weights have few bits.
    """
    if backbone.is_quantized:
        raise BackboneError(
            "Expected weights of 16 or 32 bits to merge an update into, found a quantized model. Load the backbone "
            "without quantization, or predict without merging."
        )
    for layer in list(backbone.modules()):
        if isinstance(layer, RowColumnUpdate):
            layer.merge()
        elif isinstance(layer, LoraLayer) and not layer.merged:
            layer.merge()
            _count_change(layer)


def unmerge_update(backbone: Backbone) -> None:
    """Takes the updates out of the weights again: RoCoFT's equal to the bit, low-rank updates up to rounding."""
    for layer in list(backbone.modules()):
        if isinstance(layer, RowColumnUpdate):
            layer.unmerge()
        elif isinstance(layer, LoraLayer) and layer.merged:
            layer.unmerge()
            _count_change(layer)


def _count_change(layer: LoraLayer) -> None:
    # peft writes past torch's counter of changes, which tells that pre-packed copies of the weights are old.
    torch.autograd.graph.increment_version(layer.get_base_layer().weight)
