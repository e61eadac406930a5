"""Weights in the order in which a CPU's kernels read them, for prediction."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# The packed weights are a second copy: so many bytes of weights at most are packed, and none of matrices so small that
# their products cost nothing.
MOST_BYTES = 2**30
LEAST_ELEMENTS = 2**14
# Elements of a weight that are looked at to see whether it has changed.
SAMPLED = 512


class PackedWeights:
    """Lets a model's linear layers multiply by packed weights while it is entered; outside of it nothing is changed.

    A product of float32 on a CPU puts its weights into blocks at each call, which takes as long as the product itself
    where a few tokens are written. Packed once, the same weights give the same numbers up to rounding. Only torch's own
    linear layers are packed, for use without gradients, and not the output embeddings, which are read row by row.

    Args:
        model: the model; weights that have changed are packed anew when it is entered.
        most_bytes: a model with more bytes of such weights is left as it is.
    """

    def __init__(self, model: nn.Module, *, most_bytes: int = MOST_BYTES) -> None:
        self.model = model
        self.most_bytes = most_bytes
        self._packed: dict[nn.Linear, tuple[tuple[int, int, float], Tensor]] = {}

    def __reduce__(self) -> Any:
        # Packed weights cannot be pickled, and need not be.
        return partial(type(self), most_bytes=self.most_bytes), (self.model,)

    def __enter__(self) -> "PackedWeights":
        layers = self._layers()
        self._packed = {layer: self._packed[layer] for layer in layers if layer in self._packed}
        for layer in layers:
            state = _state_of(layer.weight)
            if layer not in self._packed or self._packed[layer][0] != state:
                packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
                self._packed[layer] = state, packed
            layer.forward = _Product(layer, self._packed[layer][1])  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        for layer in list(self._packed):
            layer.__dict__.pop("forward", None)  # another thread may have been first

    def _layers(self) -> list[nn.Linear]:
        """Returns the layers whose weights are packed."""
        if not _is_known():
            return []
        parts = list(self.model.modules())
        outputs = [part.get_output_embeddings() for part in parts if isinstance(part, PreTrainedModel)]
        found = [
            part
            for part in parts
            if type(part) is nn.Linear
            and part not in outputs
            # Anything else there was put by others, such as a hook that offloads weights.
            and isinstance(part.__dict__.get("forward"), (_Product, type(None)))
            and part.weight.device.type == "cpu"
            and part.weight.dtype == torch.float32
            and part.weight.numel() >= LEAST_ELEMENTS
        ]
        return found if sum(part.weight.nbytes for part in found) <= self.most_bytes else []


class _Product:
    """A linear layer's forward over its packed weights, where its input is of their type."""

    def __init__(self, layer: nn.Linear, packed: Tensor) -> None:
        self.layer = layer
        self.packed = packed

    def __call__(self, states: Tensor) -> Tensor:
        if states.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return nn.functional.linear(states, self.layer.weight, self.layer.bias)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(states, self.packed, self.layer.bias, "none", [], "")
        return found


def _state_of(weight: Tensor) -> tuple[int, int, float]:
    """Returns what tells whether a weight has changed; some optimizers pass by torch's counter of changes."""
    some = weight.detach().flatten()[:: max(1, weight.numel() // SAMPLED)]
    return weight.data_ptr(), weight._version, float(some.double().sum())


def _is_known() -> bool:
    """Returns whether this torch has the products; they are what `torch.compile` uses, and no promise of torch's."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return bool(torch._C._has_mkldnn) and all(hasattr(torch.ops.mkldnn, name) for name in names)
