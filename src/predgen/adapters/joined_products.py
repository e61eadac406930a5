"""Layers that read the same states make one product: queries, keys and values; the gate and the way up.

y = x [W₁; W₂; …]ᵀ + (x [A₁; A₂; …]ᵀ) diag(s₁B₁, s₂B₂, …)ᵀ: the updates of `low_rank` side by side. Of short batches
most of a step is the beginning and the end of each product, not the product.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

# Names of layers that many families give the same states, in the order in which they are called.
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class _JoinedProduct(torch.autograd.Function):
    """The outputs of several layers with their updates, and all of it backward."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Float[Tensor, "*batch inputs"],
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
        scales: Sequence[float],
        *updates: Tensor,
    ) -> tuple[Tensor, ...]:
        downs, ups = updates[: len(scales)], updates[len(scales) :]
        rows = states.reshape(-1, states.shape[-1])
        down, up = torch.cat(downs).to(states.dtype), _diagonal(ups, scales, states.dtype)
        low = rows @ down.T
        product = nn.functional.linear(rows, weight, bias).addmm_(low, up.T)
        ctx.save_for_backward(rows, weight, low, down, up)
        ctx.scales, ctx.shape = scales, states.shape
        ctx.sizes, ctx.ranks = [one.shape[0] for one in ups], [one.shape[1] for one in ups]
        return torch.split(product.view(*states.shape[:-1], -1), ctx.sizes, dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, low, down_half, up_half = ctx.saved_tensors
        outputs = torch.cat(gradients, dim=-1).reshape(-1, weight.shape[0])
        low_gradient = outputs @ up_half
        states = None
        if ctx.needs_input_grad[0]:
            states = (outputs @ weight).addmm_(low_gradient, down_half).view(ctx.shape)
        downs = (low_gradient.T @ rows).float().split(ctx.ranks)
        of_all_ranks = (outputs.T @ low).float()
        ups = [
            block.mul(scale)
            for block, scale in zip(_blocks(of_all_ranks, ctx.sizes, ctx.ranks), ctx.scales, strict=True)
        ]
        return states, None, None, None, *downs, *ups


def _diagonal(ups: Sequence[Tensor], scales: Sequence[float], dtype: torch.dtype) -> Float[Tensor, "outputs ranks"]:
    """Returns the scaled updates as blocks on a diagonal."""
    sizes, ranks = [one.shape[0] for one in ups], [one.shape[1] for one in ups]
    whole = torch.zeros(sum(sizes), sum(ranks), dtype=dtype, device=ups[0].device)
    for block, up, scale in zip(_blocks(whole, sizes, ranks), ups, scales, strict=True):
        block.copy_(up * scale)
    return whole


def _blocks(whole: Float[Tensor, "outputs ranks"], sizes: Sequence[int], ranks: Sequence[int]) -> list[Tensor]:
    """Returns the blocks on the diagonal."""
    return [rows.split(list(ranks), dim=1)[index] for index, rows in enumerate(whole.split(list(sizes)))]


class Siblings:
    """Layers whose products are joined, if they turn out to be called one after the other with the same states.

    The base weights then lie in one tensor, of which each layer's are a part, so that nothing is held twice. Where they
    have been moved or changed apart since, they are joined anew.

    Args:
        layers: with updates, in the order in which they are called.
    """

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.layers = layers
        self._asked: Tensor | None = None
        self._joins: bool | None = None
        self._weight: Tensor | None = None
        self._held: tuple[Tensor, tuple[Tensor, ...]] | None = None

    def product(self, index: int, states: Tensor, adapter: str) -> Tensor | None:
        """Returns a layer's output; None if it is to be made apart.

        Args:
            index: of the layer.
            states: what it is given.
            adapter: the update that is active.
        """
        if self._joins is None:
            self._look(index, states)
        if not self._joins:
            return None
        held = self._held  # read once: another thread may hold what it needs there
        if held is None or held[0] is not states:
            if index > 0:
                return None
            held = (states, self._products(states, adapter))
        last = index == len(self.layers) - 1
        self._held = None if last else held
        return held[1][index]

    def _look(self, index: int, states: Tensor) -> None:
        """Decides by the first round of calls whether the layers have the same states."""
        if index == 0:
            self._asked = states
        elif self._asked is not states:
            self._joins, self._asked = False, None
        elif index == len(self.layers) - 1:
            self._joins, self._asked = True, None

    def _products(self, states: Tensor, adapter: str) -> tuple[Tensor, ...]:
        bases = [layer.base_layer for layer in self.layers]
        weight = self._joined([base.weight for base in bases])
        bias = None if bases[0].bias is None else torch.cat([base.bias for base in bases])
        products: tuple[Tensor, ...] = _JoinedProduct.apply(  # type: ignore[no-untyped-call]
            states,
            weight,
            bias,
            [layer.scaling[adapter] for layer in self.layers],
            *(layer.lora_A[adapter].weight for layer in self.layers),
            *(layer.lora_B[adapter].weight for layer in self.layers),
        )
        return products

    def _joined(self, weights: Sequence[nn.Parameter]) -> Tensor:
        """Returns the weights as one tensor, of which each is a part."""
        if self._weight is not None and _are_parts(weights, self._weight):
            return self._weight
        with torch.no_grad():
            whole = torch.cat([weight.detach() for weight in weights])
            for weight, part in zip(weights, torch.split(whole, [len(one) for one in weights]), strict=True):
                weight.data = part
        self._weight = whole
        return whole


def _are_parts(weights: Sequence[Tensor], whole: Tensor) -> bool:
    """Returns whether weights lie in a tensor, one after the other."""
    start = whole.data_ptr()
    for weight in weights:
        if weight.data_ptr() != start or weight.dtype != whole.dtype or weight.device != whole.device:
            return False
        start += weight.nbytes
    return True


def siblings_of(model: nn.Module) -> dict[LoraLinear, tuple[Siblings, int]]:
    """Returns the layers whose products may be joined, each with its siblings and its place among them."""
    found: dict[LoraLinear, tuple[Siblings, int]] = {}
    for parent in model.modules():
        for names in SIBLINGS:
            layers: list[Any] = [getattr(parent, name, None) for name in names]
            if all(type(layer) is LoraLinear and type(layer.base_layer) is nn.Linear for layer in layers):
                kinds = {(layer.base_layer.in_features, layer.base_layer.bias is None) for layer in layers}
                if len(kinds) == 1:
                    group = Siblings(layers)
                    found |= {layer: (group, index) for index, layer in enumerate(layers)}
    return found
