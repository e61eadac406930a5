"""Merges an update into the weights that it belongs to, for serving: each layer is a single product again."""

import copy
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

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
    _merge(backbone)


def merged_copy(backbone: Backbone, *, merge: bool = True) -> Any:
    """Returns a copy of the Hugging Face model with the update in its weights, in float32 and on the CPU.

    The copy has the layers of a model that was never updated, and can be saved as one. Rows of tokens that were added
    for writing are as they were before training. The backbone stays as it is.

    Args:
        backbone: the backbone.
        merge: whether the update goes into the weights; if not, it is left out.

    Raises:
        BackboneError: the weights have few bits.
    """
    if backbone.is_quantized:
        raise BackboneError(
            "Expected weights of 16 or 32 bits to merge an update into, found a quantized model. Fit without "
            "quantization."
        )
    whole = _copy_on_cpu(backbone.model).float().eval()
    if merge:
        _merge(whole)
    model = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer | RowColumnUpdate):
                setattr(parent, name, child.base_layer)
            elif isinstance(child, AuxiliaryTrainingWrapper):
                setattr(parent, name, child.original_module)
    return model.requires_grad_(False)


def _copy_on_cpu(model: nn.Module) -> Any:
    """Returns a copy whose weights are made on the CPU: a device that holds the model need not hold it twice."""
    memo: dict[int, Any] = {id(buffer): buffer.detach().to("cpu", copy=True) for buffer in model.buffers()}
    for parameter in model.parameters():
        values = parameter.detach().to("cpu", copy=True)
        memo[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
    return copy.deepcopy(model, memo)


def _merge(model: nn.Module) -> None:
    for layer in list(model.modules()):
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
