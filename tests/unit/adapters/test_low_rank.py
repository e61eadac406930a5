"""LoRA's 16-bit products: outputs and gradients beside peft's in float64, and what is left to peft."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from predgen.adapters.low_rank import _Forward, use_half_products

INPUTS, OUTPUTS, RANK = 24, 40, 4


class Layers(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, OUTPUTS, bias=bias)

    def forward(self, states: Tensor) -> Tensor:
        product: Tensor = self.first(states)
        return product


def updated(dtype: torch.dtype, *, bias: bool = True, **options: object) -> nn.Module:
    torch.manual_seed(0)
    model = get_peft_model(Layers(bias).to(dtype), LoraConfig(r=RANK, target_modules=["first"], **options))
    layer = layer_of(model)
    nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    return model


def layer_of(model: nn.Module) -> LoraLinear:
    return next(module for module in model.modules() if isinstance(module, LoraLinear))


def gradients(model: nn.Module, states: Tensor) -> list[Tensor]:
    """Returns the output and the gradients of the states and of the update."""
    states = states.detach().requires_grad_()
    output = model(states)
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(output.dtype)
    layer = layer_of(model)
    trained = (states, layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    return [output, *torch.autograd.grad((output * weights).sum(), trained)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_are_as_near_to_float64_as_pefts(dtype: torch.dtype, bias: bool) -> None:
    model = updated(dtype, bias=bias)
    states = torch.randn(2, 7, INPUTS, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = gradients(copy.deepcopy(model).double(), states.double())
    pefts = gradients(model, states)
    use_half_products(model)
    assert isinstance(layer_of(model).forward, _Forward)
    ours = gradients(model, states)
    for mine, theirs, reference in zip(ours, pefts, exact, strict=True):
        assert mine.dtype == theirs.dtype
        errors = [(found.double() - reference).abs().max() / reference.abs().max() for found in (mine, theirs)]
        assert errors[0] < max(1.5 * errors[1], 2 * torch.finfo(dtype).eps)
    with torch.no_grad():
        torch.testing.assert_close(model(states), ours[0], rtol=0, atol=float(torch.finfo(dtype).eps) * 8)


def test_float32_and_other_updates_are_pefts_to_the_bit() -> None:
    for options in ({}, {"use_dora": True}, {"lora_dropout": 0.5}):
        dtype = torch.bfloat16 if options else torch.float32
        model = updated(dtype, **options)
        states = torch.randn(5, INPUTS, generator=torch.Generator().manual_seed(1)).to(dtype)
        torch.manual_seed(2)
        expected = gradients(model, states)
        use_half_products(model)
        torch.manual_seed(2)
        for ours, theirs in zip(gradients(model, states), expected, strict=True):
            assert torch.equal(ours, theirs)


def test_a_merged_or_disabled_update_is_not_added_again() -> None:
    model = updated(torch.bfloat16)
    use_half_products(model)
    states = torch.randn(5, INPUTS, generator=torch.Generator().manual_seed(1)).bfloat16()
    apart = model(states)
    layer = layer_of(model)
    with model.disable_adapter():
        assert torch.equal(model(states), nn.functional.linear(states, layer.base_layer.weight, layer.base_layer.bias))
    layer.merge()
    torch.testing.assert_close(model(states), apart, rtol=0, atol=0.1)
    assert torch.equal(model(states), layer.base_layer(states))


def test_a_copy_multiplies_by_its_own_weights() -> None:
    model = updated(torch.bfloat16)
    use_half_products(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        layer_of(twin).lora_B["default"].weight.zero_()
    states = torch.ones(1, INPUTS, dtype=torch.bfloat16)
    assert layer_of(twin).forward.layer is layer_of(twin)
    assert not torch.equal(model(states), twin(states))
