"""Packed weights give what plain ones give, follow their changes, and leave the model as it was."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from predgen.backbones import prepacking
from predgen.backbones.prepacking import PrepackedWeights

pytestmark = pytest.mark.skipif(not prepacking._is_known(), reason="this torch has no packed products")

SIZE = 160


class Net(nn.Module):
    """Two layers that are packed, and one too small for it."""

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(SIZE, 2 * SIZE, bias=bias), nn.Linear(2 * SIZE, SIZE, bias=bias)
        self.small = nn.Linear(SIZE, 3)

    def forward(self, states: Tensor) -> Tensor:
        found: Tensor = self.small(self.second(torch.relu(self.first(states))))
        return found


def used(packed: PrepackedWeights) -> list[str]:
    """Returns the layers that multiply by packed weights now."""
    return [name for name, part in packed.model.named_modules() if "forward" in part.__dict__]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=2), st.booleans(), st.booleans())
@torch.no_grad()
def test_packed_products_are_the_plain_ones(shape: list[int], bias: bool, turned: bool) -> None:
    net = Net(bias=bias)
    packed = PrepackedWeights(net)
    states = torch.randn(*shape, SIZE)
    if turned and len(shape) == 2:
        states = states.transpose(0, 1)
    plain = net(states)
    with packed:
        assert used(packed) == ["first", "second"]
        found = net(states)
    assert used(packed) == []
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)
    assert torch.equal(net(states), plain)


@torch.no_grad()
def test_changed_weights_are_packed_anew() -> None:
    net, states = Net(), torch.randn(3, SIZE)
    packed = PrepackedWeights(net)
    with packed:
        before = net(states)
        same = net(states)
    assert torch.equal(before, same)
    net.first.weight.mul_(2)
    net.second.weight = nn.Parameter(torch.randn_like(net.second.weight))
    with packed:
        after = net(states)
    torch.testing.assert_close(after, net(states), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(after, before)


@torch.no_grad()
def test_changes_that_torch_does_not_count_are_seen() -> None:
    net, states = Net(), torch.randn(3, SIZE)
    packed = PrepackedWeights(net)
    with packed:
        net(states)
    net.first.weight.data.mul_(2)
    with packed:
        found = net(states)
    torch.testing.assert_close(found, net(states), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_inputs_of_another_type_take_the_plain_road() -> None:
    net, states = Net(), torch.randn(3, SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        expected = net(states)
        with PrepackedWeights(net):
            assert torch.equal(net(states), expected)


@torch.no_grad()
def test_one_that_enters_while_another_is_inside_leaves_nothing_behind() -> None:
    net, states = Net(), torch.randn(3, SIZE)
    packed, plain = PrepackedWeights(net), net(states)
    with packed:
        with packed:
            assert used(packed) == ["first", "second"]
        torch.testing.assert_close(net(states), plain, rtol=1e-4, atol=1e-5)
    assert used(packed) == []


def test_what_is_left_as_it_is() -> None:
    net = Net()
    with PrepackedWeights(net, most_bytes=1000) as packed:
        assert used(packed) == []
    with PrepackedWeights(net.bfloat16()) as packed:
        assert used(packed) == []
    net = Net()
    net.first.forward = own = lambda states: states  # type: ignore[method-assign]
    with PrepackedWeights(net) as packed:
        assert used(packed) == ["first", "second"]
        assert net.first.forward is own
    assert net.first.forward is own


def test_output_embeddings_are_not_packed() -> None:
    config = LlamaConfig(
        vocab_size=300, hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4
    )
    with PrepackedWeights(LlamaForCausalLM(config)) as packed:
        assert "lm_head" not in used(packed)
        assert "model.layers.0.mlp.up_proj" in used(packed)


@torch.no_grad()
def test_it_can_be_pickled() -> None:
    packed = PrepackedWeights(Net())
    states = torch.randn(3, SIZE)
    with packed:
        expected = packed.model(states)
    again = pickle.loads(pickle.dumps(packed))
    with again:
        assert torch.equal(again.model(states), expected)
