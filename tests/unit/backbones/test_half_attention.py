"""16-bit attention as products: values and gradients beside those in float64, and what is left to torch's kernel."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from predgen.backbones import half_attention

BATCH, HEADS, GROUPS, SIZE = 3, 6, 2, 8


class Layer(nn.Module):
    """What attention reads of its layer."""

    def __init__(self, is_causal: bool = True) -> None:
        super().__init__()
        self.num_key_value_groups = HEADS // GROUPS
        self.is_causal = is_causal


def states_of(new: int, seen: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(new * 100 + seen)
    shapes = ((BATCH, HEADS, new, SIZE), (BATCH, GROUPS, seen, SIZE), (BATCH, GROUPS, seen, SIZE))
    return tuple(torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes)  # type: ignore[return-value]


def mask_of(kind: str, new: int, seen: int) -> Tensor | None:
    visible = torch.ones(BATCH, 1, new, seen, dtype=torch.bool).tril(seen - new)
    visible[1, :, 1:, 0] = False  # the second row begins with padding, which sees itself alone
    if kind == "none":
        return None
    return visible if kind == "boolean" else torch.zeros(visible.shape).masked_fill(~visible, -1e9)


def attended(states: tuple[Tensor, ...], mask: Tensor | None, module: Any, **kwargs: Any) -> list[Tensor]:
    """Returns the output and the gradients of the states."""
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(states[0].dtype)
    output, _ = half_attention.attend(module, *states, mask, **kwargs)
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(output.dtype)
    return [output, *torch.autograd.grad((output * weights).sum(), states)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask", ["none", "boolean", "added"])
@pytest.mark.parametrize(("new", "seen"), [(5, 5), (3, 7), (1, 4)])
def test_products_give_what_float64_gives(dtype: torch.dtype, mask: str, new: int, seen: int) -> None:
    module = Layer()
    if mask == "none" and new < seen:
        pytest.skip("the kernel's own causal mask begins at the first key")
    states = states_of(new, seen, dtype)
    assert half_attention._suits(module, states[0], states[1], 0.0, {})
    exact = tuple(one.detach().double().requires_grad_() for one in states)
    found = attended(states, mask_of(mask, new, seen), module)
    expected = attended(exact, mask_of(mask, new, seen), module)
    assert found[0].dtype == dtype
    for ours, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.double(), reference, rtol=0, atol=6 * float(torch.finfo(dtype).eps))


def test_everything_else_is_left_to_the_kernel() -> None:
    module = Layer()
    query, key, _ = states_of(4, 4, torch.bfloat16)
    assert half_attention._suits(module, query, key, 0.0, {"sliding_window": 3, "use_cache": True, "softcap": None})
    with torch.no_grad():
        assert not half_attention._suits(module, query, key, 0.0, {})
    assert not half_attention._suits(module, query.detach(), key.detach(), 0.0, {})
    assert not half_attention._suits(module, query.float(), key.float(), 0.0, {})
    assert not half_attention._suits(module, query, key, 0.1, {})
    assert not half_attention._suits(module, query, key, 0.0, {"position_bias": key})
    assert not half_attention._suits(Layer(is_causal=False), query, key, 0.0, {})
    long_query, long_key, _ = states_of(200, 200, torch.bfloat16)
    assert not half_attention._suits(module, long_query, long_key, 0.0, {})
