"""Queries, keys and values in one product: outputs and gradients, and what is made apart."""

import copy
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from predgen.adapters import joined_products
from predgen.adapters.joined_products import Siblings
from predgen.adapters.low_rank import use_half_products

SIZES = {"q_proj": 24, "k_proj": 8, "v_proj": 16}
INPUTS, RANK = 12, 3


class Attention(nn.Module):
    """Gives its layers the same states, or keys and values others."""

    def __init__(self, bias: bool = False, crosses: bool = False) -> None:
        super().__init__()
        self.crosses = crosses
        for name, size in SIZES.items():
            setattr(self, name, nn.Linear(INPUTS, size, bias=bias))

    def forward(self, states: Tensor) -> Tensor:
        others = states + 1 if self.crosses else states
        return torch.cat([self.q_proj(states), self.k_proj(others), self.v_proj(others)], dim=-1)


def updated(dtype: torch.dtype = torch.bfloat16, **options: bool) -> nn.Module:
    torch.manual_seed(0)
    # Each layer has a rank and a scale of its own.
    config = LoraConfig(r=RANK, lora_alpha=6, target_modules=list(SIZES), rank_pattern={"k_proj": 2})
    model = get_peft_model(Attention(**options).to(dtype), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.3)
    return model


def states_of(rows: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(2, rows, INPUTS, generator=torch.Generator().manual_seed(seed)).bfloat16()


def gradients(model: nn.Module, states: Tensor) -> list[Tensor]:
    """Returns the output and the gradients of the states and of all updates."""
    states = states.detach().requires_grad_()
    output = model(states)
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(output.dtype)
    trained = [states, *(weight for name, weight in model.named_parameters() if "lora" in name)]
    return [output, *torch.autograd.grad((output * weights).sum(), trained)]


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the joined products."""
    made: list[int] = []
    original: Callable[..., tuple[Tensor, ...]] = Siblings._products

    def counted(self: Siblings, *given: object) -> tuple[Tensor, ...]:
        made.append(1)
        return original(self, *given)

    monkeypatch.setattr(joined_products.Siblings, "_products", counted)
    return made


@pytest.mark.parametrize("bias", [False, True])
def test_one_product_is_as_near_to_float64_as_pefts(bias: bool, products: list[int]) -> None:
    model, states = updated(bias=bias), states_of()
    exact = gradients(copy.deepcopy(model).double(), states.double())
    pefts = gradients(model, states)
    use_half_products(model)
    gradients(model, states)
    assert products == []  # the first round finds out who reads what
    ours = gradients(model, states)
    assert products == [1]
    for mine, theirs, reference in zip(ours, pefts, exact, strict=True):
        assert mine.dtype == theirs.dtype
        errors = [(found.double() - reference).abs().max() / reference.abs().max() for found in (mine, theirs)]
        assert errors[0] < max(1.5 * errors[1], 2 * torch.finfo(torch.bfloat16).eps)
    with torch.no_grad():
        assert torch.equal(model(states), ours[0])


def test_layers_that_read_other_states_are_apart(products: list[int]) -> None:
    model, states = updated(crosses=True), states_of()
    use_half_products(model)
    first, second = gradients(model, states), gradients(model, states)
    assert products == []
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_layer_that_is_called_alone_has_its_own_states(products: list[int]) -> None:
    model = updated()
    use_half_products(model)
    attention = model.base_model.model
    model(states_of())
    whole = model(states_of())
    # A call for the queries alone leaves products behind; no others may take them for theirs.
    attention.q_proj(states_of(seed=2))
    other = states_of(seed=3)
    keys = attention.k_proj(other)
    expected = copy.deepcopy(attention.k_proj)
    torch.testing.assert_close(keys, type(expected).forward(expected, other), rtol=0.02, atol=0.02)
    torch.testing.assert_close(model(states_of()), whole, rtol=0, atol=0)


def test_weights_are_held_once_and_joined_anew_when_they_have_changed() -> None:
    model, states = updated(), states_of()
    use_half_products(model)
    for _ in range(2):
        model(states)
    attention = model.base_model.model
    bases = [getattr(attention, name).base_layer.weight for name in SIZES]
    assert len({weight.untyped_storage().data_ptr() for weight in bases}) == 1
    with torch.no_grad():
        bases[1].mul_(2)  # in place: a part of the joined tensor
        bases[2].data = bases[2] * 3  # anew: no part of it any more
    found = model(states)
    twin = updated()
    with torch.no_grad():
        twin_bases = [getattr(twin.base_model.model, name).base_layer.weight for name in SIZES]
        twin_bases[1].mul_(2)
        twin_bases[2].mul_(3)
    torch.testing.assert_close(found, twin(states), rtol=0.02, atol=0.02)


def test_a_copy_and_a_switched_off_update_have_their_own_weights() -> None:
    model, states = updated(), states_of()
    use_half_products(model)
    for _ in range(2):
        before = model(states)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in twin.named_parameters():
            if "lora_B" in name:
                weight.zero_()
    assert torch.equal(model(states), before)
    with model.disable_adapter():
        torch.testing.assert_close(twin(states), model(states), rtol=0, atol=0)
    assert not torch.equal(twin(states), before)
