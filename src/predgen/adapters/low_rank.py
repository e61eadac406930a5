"""LoRA beside frozen 16-bit weights as four thin products in the weights' type, where peft casts to float32 and back.

y = x Wᵀ + s (x Aᵀ) Bᵀ (arXiv 2106.09685, section 4.1). A and B are trained in float32; they are rounded for each
product, as torch's autocast rounds them. peft casts x, y and both gradients to float32 instead, and scales and adds in
passes of their own, which takes longer than the frozen product itself.
"""

from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from predgen.adapters.joined_products import Siblings, siblings_of

HALF_TYPES = (torch.bfloat16, torch.float16)


class _Product(torch.autograd.Function):
    """A linear layer with its update, and both backward."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Float[Tensor, "*batch inputs"],
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
        down: Float[Tensor, "rank inputs"],
        up: Float[Tensor, "outputs rank"],
        scale: float,
    ) -> Float[Tensor, "*batch outputs"]:
        rows = states.reshape(-1, states.shape[-1])
        down_half, up_half = down.to(states.dtype), (up * scale).to(states.dtype)
        low = rows @ down_half.T
        product = torch.nn.functional.linear(rows, weight, bias).addmm_(low, up_half.T)
        ctx.save_for_backward(rows, weight, low, down_half, up_half)
        ctx.scale, ctx.shape = scale, states.shape
        return product.view(*states.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, low, down_half, up_half = ctx.saved_tensors
        outputs = gradients[0].reshape(-1, weight.shape[0])
        low_gradient = outputs @ up_half
        states = None
        if ctx.needs_input_grad[0]:
            states = (outputs @ weight).addmm_(low_gradient, down_half).view(ctx.shape)
        down = (low_gradient.T @ rows).float()
        up = (outputs.T @ low).float().mul_(ctx.scale)
        return states, None, None, down, up, None


def use_half_products(model: nn.Module) -> None:
    """Gives each updated linear layer of a model the fast forward, which takes peft's wherever it does not apply."""
    siblings = siblings_of(model)
    for layer in model.modules():
        if type(layer) is LoraLinear and type(layer.base_layer) is nn.Linear:
            layer.forward = _Forward(layer, *siblings.get(layer, (None, 0)))


class _Forward:
    """An updated layer's forward.

    Args:
        layer: peft's layer: a plain update, or any other, which is left to peft.
        siblings: layers that may read the same states, this one among them; None if there are none.
        place: its place among them.
    """

    def __init__(self, layer: LoraLinear, siblings: Siblings | None = None, place: int = 0) -> None:
        self.layer = layer
        self.siblings = siblings
        self.place = place

    def __reduce__(self) -> Any:
        return type(self), (self.layer,)

    def __call__(self, states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer = self.layer
        name = layer.active_adapters[0]
        if args or kwargs or not self._applies(states, name):
            pefts: Tensor = type(layer).forward(layer, states, *args, **kwargs)
            return pefts
        if self.siblings is not None and states.device.type == "cpu" and self._joins(states, name):
            joined = self.siblings.product(self.place, states, name)
            if joined is not None:
                return joined
        down, up, scale = layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
        base = layer.base_layer
        if torch.is_grad_enabled():
            product: Tensor = _Product.apply(states, base.weight, base.bias, down, up, scale)  # type: ignore[no-untyped-call]
            return product
        product = base(states)
        low = states @ down.to(states.dtype).T
        product.view(-1, product.shape[-1]).addmm_(low.view(-1, low.shape[-1]), (up * scale).to(states.dtype).T)
        return product

    def _joins(self, states: Tensor, name: str) -> bool:
        """Returns whether all siblings are such layers now; only the first of them has to ask."""
        siblings = self.siblings
        assert siblings is not None  # or it would not be asked
        return self.place > 0 or all(layer.forward._applies(states, name) for layer in siblings.layers)

    def _applies(self, states: Tensor, name: str) -> bool:
        layer = self.layer
        weight = layer.base_layer.weight
        return (
            len(layer.active_adapters) == 1
            and name in layer.lora_A
            and name not in layer.lora_variant
            and not layer.disable_adapters
            and not layer.merged
            and layer.lora_A[name].bias is None
            and layer.lora_B[name].bias is None
            and not (layer.training and not isinstance(layer.lora_dropout[name], nn.Identity))
            and weight.dtype == states.dtype
            and weight.dtype in HALF_TYPES
            and not weight.requires_grad
            and (layer.base_layer.bias is None or not layer.base_layer.bias.requires_grad)
            and not _autocasts(states.device.type)
        )


def _autocasts(device: str) -> bool:
    """Returns whether autocast chooses types; it does not know shapes without values (`meta`)."""
    return device != "meta" and torch.is_autocast_enabled(device)
