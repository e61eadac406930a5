"""Pre-packed (oneDNN) weights for prediction on a CPU: in the order in which its kernels read them."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

# Pre-packed weights are a second copy. A model with more bytes of linear weights than this is left as it is, and so
# are matrices so small that their products cost nothing.
MOST_BYTES = 2**30
LEAST_ELEMENTS = 2**14
# Elements of a weight that are looked at to see whether it has changed.
SAMPLED = 512


class PrepackedWeights:
    """Lets a model's linear layers multiply by pre-packed weights while it is entered, and puts them back on leaving.

    A product of float32 on a CPU reorders its weights into blocks at each call, which takes as long as the product
    itself where a few tokens are written. Packed once, the same weights give the same numbers up to rounding. Only
    torch's own linear layers are packed, for use without gradients, and not the output embeddings, which are read row
    by row.

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

    def __enter__(self) -> "PrepackedWeights":
        layers = self._layers()
        self._packed = {layer: self._packed[layer] for layer in layers if layer in self._packed}
        for layer in layers:
            fingerprint = _fingerprint_of(layer.weight)
            if layer not in self._packed or self._packed[layer][0] != fingerprint:
                packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
                self._packed[layer] = fingerprint, packed
            layer.forward = _Product(layer, self._packed[layer][1])  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        for layer in list(self._packed):
            layer.__dict__.pop("forward", None)  # another thread may have been first

    def _layers(self) -> list[nn.Linear]:
        """Returns the layers whose weights are packed."""
        if not _is_known():
            return []
        modules = list(self.model.modules())
        outputs = [module.get_output_embeddings() for module in modules if isinstance(module, PreTrainedModel)]
        layers = [
            module
            for module in modules
            if type(module) is nn.Linear
            and module not in outputs
            # Any other forward was put there by others, such as a hook that offloads weights.
            and isinstance(module.__dict__.get("forward"), (_Product, type(None)))
            and module.weight.device.type == "cpu"
            and module.weight.dtype == torch.float32
            and module.weight.numel() >= LEAST_ELEMENTS
        ]
        return layers if sum(layer.weight.nbytes for layer in layers) <= self.most_bytes else []


class _Product:
    """A linear layer's forward over its pre-packed weights, where its input has their type."""

    def __init__(self, layer: nn.Linear, packed: Tensor) -> None:
        self.layer = layer
        self.packed = packed

    def __call__(self, states: Tensor) -> Tensor:
        if states.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return nn.functional.linear(states, self.layer.weight, self.layer.bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(states, self.packed, self.layer.bias, "none", [], "")
        return product


def _fingerprint_of(weight: Tensor) -> tuple[int, int, float]:
    """Returns what tells whether a weight has changed; some optimizers write past torch's counter of changes."""
    sampled = weight.detach().flatten()[:: max(1, weight.numel() // SAMPLED)]
    return weight.data_ptr(), weight._version, float(sampled.double().sum())


def _is_known() -> bool:
    """Returns whether this torch has the two operators; `torch.compile` uses them, but torch does not promise them."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return bool(torch._C._has_mkldnn) and all(hasattr(torch.ops.mkldnn, name) for name in names)
