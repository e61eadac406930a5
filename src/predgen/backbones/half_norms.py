"""Root-mean-square norms of 16-bit states on a CPU with a gradient of their own: fewer passes over fewer numbers.

y = g x / √(mean x² + ε) (arXiv 1910.07467), where g is the layer's weight, or 1 + weight. autograd keeps each step of
it in float32 and goes back through all of them, which takes longer than the product that follows.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

HALF_TYPES = (torch.bfloat16, torch.float16)
# How far a layer's output may be from the formula, in units of its type's precision: rounded twice or thrice.
ROUNDINGS = 4


class _Norm(torch.autograd.Function):
    """A norm whose values are the layer's own."""

    @staticmethod
    def forward(
        ctx: Any, states: Float[Tensor, "*batch size"], layer: nn.Module, gain: Float[Tensor, " size"], eps: float
    ) -> Float[Tensor, "*batch size"]:
        ctx.save_for_backward(states, gain)
        ctx.eps = eps
        output: Tensor = type(layer).forward(layer, states)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        states, gain = ctx.saved_tensors
        exact, scaled = states.float(), gradients[0].float().mul_(gain)
        inverse = _inverse_root(exact, ctx.eps)
        along = torch.linalg.vecdot(scaled, exact).unsqueeze(-1)
        share = inverse.pow(3).mul_(along).div_(-exact.shape[-1])
        return scaled.mul_(inverse).addcmul_(exact, share).to(states.dtype), None, None, None


class _Forward:
    """A norm's forward where a gradient is wanted, and the layer's own elsewhere.

    Args:
        layer: the norm.
        offset: what is added to its weight: 0 or 1.
    """

    def __init__(self, layer: nn.Module, offset: float) -> None:
        self.layer = layer
        self.offset = offset

    def __reduce__(self) -> Any:
        return type(self), (self.layer, self.offset)

    def __call__(self, states: Tensor) -> Tensor:
        layer = self.layer
        weight = layer.weight
        assert isinstance(weight, Tensor)  # or it would not have been chosen
        suits = (
            torch.is_grad_enabled()
            and states.requires_grad
            and not weight.requires_grad
            and states.dtype in HALF_TYPES
            and states.device.type == "cpu"
        )
        output: Tensor = (
            _Norm.apply(states, layer, weight.float() + self.offset, _eps_of(layer))  # type: ignore[no-untyped-call]
            if suits
            else type(layer).forward(layer, states)
        )
        return output


def use_half_norms(model: nn.Module) -> None:
    """Gives each norm of a model that is known to follow the formula its faster gradient."""
    for layer in model.modules():
        offset = _offset_of(layer) if type(layer).__name__.endswith("RMSNorm") else None
        if offset is not None and "forward" not in layer.__dict__:
            layer.forward = _Forward(layer, offset)


@torch.no_grad()
def _offset_of(layer: nn.Module) -> float | None:
    """Returns what a norm adds to its weight, found by trying; None where it follows another formula."""
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 1 or weight.dtype not in HALF_TYPES or _eps_of(layer) <= 0.0:
        return None
    if weight.device.type != "cpu":
        return None
    states = torch.randn(4, len(weight), generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    found = type(layer).forward(layer, states).float()
    normed = states.float() * _inverse_root(states.float(), _eps_of(layer))
    for offset in (0.0, 1.0):
        expected = normed * (weight.float() + offset)
        allowed = ROUNDINGS * torch.finfo(weight.dtype).eps * expected.abs().clamp(min=torch.finfo(weight.dtype).tiny)
        if bool(((found - expected).abs() <= allowed).all()):
            return offset
    return None


def _eps_of(layer: nn.Module) -> float:
    return float(getattr(layer, "variance_epsilon", getattr(layer, "eps", 0.0)) or 0.0)


def _inverse_root(states: Float[Tensor, "*batch size"], eps: float) -> Float[Tensor, "*batch 1"]:
    square = torch.linalg.vector_norm(states, dim=-1, keepdim=True).square_().div_(states.shape[-1])
    return torch.rsqrt(square.add_(eps))
