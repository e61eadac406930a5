"""An update inside the weights that it belongs to, for serving: each layer is one product again."""

import torch
from peft.tuners.lora import LoraLayer

from predgen.adapters.rocoft import RowColumnUpdate
from predgen.backbones import Backbone
from predgen.errors import BackboneError


def merge_update(backbone: Backbone) -> None:
    """Adds the update of each linear layer to its weights; rows of added tokens stay beside theirs.

    Answers stay the same up to rounding. Weights that are not in use by others alone should be merged into.

    Raises:
        BackboneError: the weights have few bits.
    """
    if backbone.is_quantized:
        raise BackboneError(
            "Expected weights of 16 or 32 bits to merge an update into, found a quantized model. Load the backbone "
            "without quantization, or predict without merging."
        )
    for part in list(backbone.modules()):
        if isinstance(part, RowColumnUpdate):
            part.merge()
        elif isinstance(part, LoraLayer) and not part.merged:
            part.merge()
            _tell_of_change(part)


def unmerge_update(backbone: Backbone) -> None:
    """Takes the updates out of the weights again: RoCoFT's to the bit, those of low rank up to rounding."""
    for part in list(backbone.modules()):
        if isinstance(part, RowColumnUpdate):
            part.unmerge()
        elif isinstance(part, LoraLayer) and part.merged:
            part.unmerge()
            _tell_of_change(part)


def _tell_of_change(layer: LoraLayer) -> None:
    # peft writes past torch's count of changes, by which packed copies of the weights are known to be old.
    torch.autograd.graph.increment_version(layer.get_base_layer().weight)
