"""16-bit norms: the layer's own values, gradients beside those in float64, and which layers are taken."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from predgen.backbones.half_norms import _Forward, use_half_norms

SIZE = 48


class HalfRMSNorm(LlamaRMSNorm):  # type: ignore[misc]
    """A norm by another formula under a name that says nothing."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return super().forward(hidden_states) * 0.5


def layer_of(kind: type[nn.Module], dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    layer = kind(SIZE, eps=1e-5)
    with torch.no_grad():
        layer.weight.add_(torch.randn(SIZE) * 0.3)
    return layer.to(dtype).requires_grad_(False)


def gradient(layer: nn.Module, states: Tensor) -> tuple[Tensor, Tensor]:
    states = states.detach().requires_grad_()
    output = layer(states)
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(output.dtype)
    return output, torch.autograd.grad((output * weights).sum(), states)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [LlamaRMSNorm, Gemma3RMSNorm])
def test_values_are_the_layers_and_gradients_are_near_float64(kind: type[nn.Module], dtype: torch.dtype) -> None:
    layer = layer_of(kind, dtype)
    states = (3 * torch.randn(2, 5, SIZE, generator=torch.Generator().manual_seed(1))).to(dtype)
    plain, plain_gradient = gradient(layer, states)
    exact = states.double().requires_grad_()
    gain = layer.weight.double() + (1 if kind is Gemma3RMSNorm else 0)
    normed = exact / (exact.square().mean(-1, keepdim=True) + 1e-5).sqrt() * gain
    weights = torch.linspace(-1, 1, normed.numel()).reshape(normed.shape).to(dtype).double()
    [reference] = torch.autograd.grad((normed * weights).sum(), exact)
    use_half_norms(layer)
    assert isinstance(layer.forward, _Forward)
    output, ours = gradient(layer, states)
    assert torch.equal(output, plain)
    assert ours.dtype == dtype
    errors = [float((one.double() - reference).abs().max()) for one in (ours, plain_gradient)]
    assert errors[0] <= 1.5 * errors[1]
    twin = copy.deepcopy(layer)
    assert twin.forward.layer is twin  # type: ignore[union-attr, attr-defined]


def test_other_formulas_and_other_types_are_left_alone() -> None:
    for layer in (layer_of(HalfRMSNorm, torch.bfloat16), layer_of(LlamaRMSNorm, torch.float32), nn.LayerNorm(SIZE)):
        use_half_norms(layer)
        assert "forward" not in layer.__dict__


def test_a_trained_weight_gets_its_gradient() -> None:
    layer = layer_of(LlamaRMSNorm, torch.bfloat16)
    use_half_norms(layer)
    layer.weight.requires_grad_(True)
    layer(torch.ones(2, SIZE, dtype=torch.bfloat16, requires_grad=True)).sum().backward()
    assert layer.weight.grad is not None
