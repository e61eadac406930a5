"""RoCoFT: a few rows or columns of each weight matrix are trained, and nothing else (arXiv 2410.10075).

    y = W x + b,   W = W₀ + R   or   W = W₀ + C

R is zero outside r rows (output features), C is zero outside r columns (input features). Only the differences of these
rows or columns are kept and trained, beside the layer: W₀ stays frozen, can be shared or have 4 or 8 bits, and no
matrix of its size is made. The gradient of a difference equals that of its row, so that without weight decay this is
the paper's training. With weight decay a row decays towards its pretrained values instead of towards zero.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from predgen.backbones import Backbone
from predgen.backbones.base import dropout_off
from predgen.errors import BackboneError

LINEAR = (nn.Linear, Conv1D)
INDEX = "rocoft_index"


class RowColumnUpdate(nn.Module):
    """A linear layer with an update of some of its rows or columns.

    Args:
        base_layer: the frozen layer, which may be GPT-2's `Conv1D` or have weights of 4 or 8 bits.
        axis: whether rows or columns are trained.
        indices: which rows or columns, each once.
        biases: whether the layer's bias is trained as well, if it has one.

    Attributes:
        rocoft_delta: what is added to each chosen row or column, in float32.
        rocoft_bias: what is added to the bias, in float32; None if it is not trained.
        rocoft_index: which rows or columns are chosen.
    """

    rocoft_index: Int[Tensor, " rank"]

    def __init__(self, base_layer: Any, *, axis: str, indices: Int[Tensor, " rank"], biases: bool) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.axis = axis
        inputs, outputs = features_of(base_layer)
        device = base_layer.weight.device
        self.register_buffer(INDEX, indices.to(device))
        length = inputs if axis == "rows" else outputs
        self.rocoft_delta = nn.Parameter(torch.zeros(len(indices), length, dtype=torch.float32, device=device))
        trains_bias = biases and base_layer.bias is not None
        self.rocoft_bias = (
            nn.Parameter(torch.zeros(outputs, dtype=torch.float32, device=device)) if trains_bias else None
        )
        # The rows or columns and the bias before the update was merged into them.
        self._replaced: tuple[Tensor, Tensor | None] | None = None

    @property
    def weight(self) -> Any:
        """The frozen layer's weight, whose type some models ask for."""
        return self.base_layer.weight

    @property
    def bias(self) -> Any:
        """The frozen layer's bias."""
        return self.base_layer.bias

    @property
    def is_merged(self) -> bool:
        """Whether the update is in the frozen weights at present."""
        return self._replaced is not None

    def forward(self, states: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        """Returns the layer's output with its update, in the type that the layer gives."""
        output: Tensor = self.base_layer(states)
        if self.is_merged:
            return output
        inputs, delta = states.to(output.dtype), self.rocoft_delta.to(output.dtype)
        if self.axis == "rows":
            output = output.index_add(-1, self.rocoft_index, (inputs @ delta.T).to(output.dtype))
        else:
            output = output + (inputs.index_select(-1, self.rocoft_index) @ delta).to(output.dtype)
        return output if self.rocoft_bias is None else output + self.rocoft_bias.to(output.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the update to the frozen weights, in their own type, and keeps the values that it replaces.

        Raises:
            BackboneError: the weights have 4 or 8 bits, to which no update can be added.
        """
        if self.is_merged:
            return
        weight, bias = self.base_layer.weight, self.base_layer.bias
        if type(weight) is not nn.Parameter or not weight.is_floating_point():
            raise BackboneError(
                f"Expected weights of 16 or 32 bits to merge an update into, found {type(self.base_layer).__name__}. "
                "Load the backbone without quantization, or predict without merging."
            )
        kept = weight.index_select(self._dimension, self.rocoft_index)
        delta = self.rocoft_delta if self._dimension == 0 else self.rocoft_delta.T
        self._replaced = kept, None if self.rocoft_bias is None else bias.clone()
        # In place and not through `.data`: whoever keeps a copy of the weights sees that they have changed.
        weight.index_copy_(self._dimension, self.rocoft_index, (kept + delta).to(weight.dtype))
        if self.rocoft_bias is not None:
            bias.copy_(bias + self.rocoft_bias)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Puts back the values that the update replaced, equal to the bit unless the layer's type has changed since."""
        if self._replaced is None:
            return
        kept, bias = self._replaced
        weight = self.base_layer.weight
        # The layer may have another type or device by now; the values that were kept aside have the old ones.
        weight.index_copy_(self._dimension, self.rocoft_index, kept.to(weight))
        if bias is not None:
            self.base_layer.bias.copy_(bias)
        self._replaced = None

    @property
    def _dimension(self) -> int:
        """The dimension of the stored weight along which the chosen rows or columns are counted."""
        return int((self.axis == "rows") == isinstance(self.base_layer, Conv1D))


def features_of(layer: Any) -> tuple[int, int]:
    """Returns how many features a linear layer reads and writes."""
    if isinstance(layer, Conv1D):  # its weight is stored transposed
        return int(layer.weight.shape[0]), int(layer.weight.shape[1])
    return int(layer.in_features), int(layer.out_features)


def add_rocoft(
    model: nn.Module,
    layers: Iterable[nn.Module],
    *,
    rank: int,
    axis: str,
    selection: str,
    biases: bool,
    seed: int,
) -> None:
    """Puts an update around some of a model's linear layers, in place.

    Args:
        model: the model.
        layers: the layers that get an update.
        rank: how many rows or columns are trained; all of a layer that has no more than that.
        axis: whether rows or columns are trained.
        selection: the first rows or columns, or random ones; `magnitude` begins with the first, until
            `choose_by_magnitude`.
        biases: whether biases are trained too.
        seed: of the random selection.
    """
    generator = torch.Generator().manual_seed(seed)
    updates: dict[nn.Module, RowColumnUpdate] = {}
    for layer in layers:
        count = features_of(layer)[int(axis == "rows")]
        # On the CPU, so that the choice is the same wherever the model is.
        indices = torch.arange(count, device="cpu")
        if selection == "random":
            indices = torch.randperm(count, generator=generator, device="cpu")
        updates[layer] = RowColumnUpdate(layer, axis=axis, indices=indices[:rank].sort().values, biases=biases)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in updates:
                setattr(parent, name, updates[child])


def updates_in(model: nn.Module) -> list[RowColumnUpdate]:
    """Returns all RoCoFT updates of a model."""
    return [module for module in model.modules() if isinstance(module, RowColumnUpdate)]


def chosen_indices(model: nn.Module) -> dict[str, Tensor]:
    """Returns which rows or columns of each layer are trained, by the buffers' names; nothing without RoCoFT."""
    return {name: buffer for name, buffer in model.named_buffers() if name.rpartition(".")[2] == INDEX}


@torch.no_grad()
def choose_by_magnitude(backbone: Backbone, prompts: Sequence[Sequence[int]], *, writes: bool) -> None:
    """Chooses the rows or columns with the largest scores on some prompts.

    A row's score is Σ_j |W_ij| ‖x_j‖ and a column's is ‖x_j‖ Σ_i |W_ij|, with the norm of an input feature over all
    tokens of the prompts (the score of Wanda, arXiv 2306.11695, summed up). Of equal scores the first is taken, as in
    layers that are not run on the prompts.

    Args:
        backbone: with its updates, which are zero.
        prompts: token ids of a few training prompts.
        writes: whether the method writes, so that the writing part is run too.
    """
    updates = updates_in(backbone)
    squares = {update: torch.zeros((), device=update.rocoft_delta.device) for update in updates}

    def note(update: Any, inputs: tuple[Tensor, ...]) -> None:
        squares[update] = squares[update] + inputs[0].float().flatten(0, -2).square().sum(dim=0)

    handles = [update.register_forward_pre_hook(note) for update in updates]
    device = next(backbone.parameters()).device
    try:
        with dropout_off(backbone):
            for prompt in prompts:  # in batches of a single row, without padding
                tokens, mask = (tensor.to(device) for tensor in backbone.collate([prompt]))
                if writes:
                    backbone.read(tokens, mask)
                else:
                    backbone.prompt_states(tokens, mask)
    finally:
        for handle in handles:
            handle.remove()
    for update in updates:
        scores = _scores(update, squares[update].sqrt())
        best = scores.argsort(descending=True, stable=True)[: len(update.rocoft_index)]
        update.rocoft_index.copy_(best.sort().values)


def _scores(update: RowColumnUpdate, norms: Float[Tensor, "*input"]) -> Float[Tensor, " feature"]:
    """Returns the score of each row or column of a layer."""
    weight = dequantize_module_weight(update.base_layer).float().abs()
    if isinstance(update.base_layer, Conv1D):
        weight = weight.T
    weighted = weight * norms
    return weighted.sum(dim=1 if update.axis == "rows" else 0)
