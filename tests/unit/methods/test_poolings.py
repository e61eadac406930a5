"""Pooling against plain loops, and a Director that padding never touches."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from predgen.methods.poolings import Attention, First, Last, Latent, Mean, Mlp, PooledHead

PROPERTY = settings(max_examples=60)
READINGS = ("mean", "last", "attention")  # what a Director may be set to
HIDDEN = 6
LENGTHS = (3, 1, 5, 2)
Pool = Callable[[Tensor, Tensor], Tensor]

POOLS: dict[str, tuple[Pool, Callable[[list[Tensor]], Tensor]]] = {
    "mean": (Mean(), lambda kept: sum(kept[1:], kept[0]) / len(kept)),
    "last": (Last(), lambda kept: kept[-1]),
    "first": (First(), lambda kept: kept[0]),
}


def director(reading: str, num_outputs: int = 3) -> PooledHead:
    torch.manual_seed(0)
    made = PooledHead.of(reading, HIDDEN, num_outputs)
    if isinstance(made.pooling, Attention):
        torch.nn.init.normal_(made.pooling.query.weight, std=2.0)  # or attention is nearly the mean
    return made


def padded(side: str, filler: float = 50.0) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Returns a batch of states whose padding is full of noise, its mask, and the rows without padding."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randn(length, HIDDEN, generator=generator) for length in LENGTHS]
    states = filler * torch.randn(len(rows), max(LENGTHS), HIDDEN, generator=generator)
    mask = torch.zeros(len(rows), max(LENGTHS), dtype=torch.bool)
    for number, row in enumerate(rows):
        kept = slice(0, len(row)) if side == "right" else slice(max(LENGTHS) - len(row), None)
        states[number, kept], mask[number, kept] = row, True
    return states, mask, rows


# ── Pooling ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", POOLS)
def test_pooling_of_padded_rows(name: str, side: str) -> None:
    pool, plain = POOLS[name]
    states, mask, rows = padded(side)
    torch.testing.assert_close(pool(states, mask), torch.stack([plain(list(row)) for row in rows]))


@PROPERTY
@given(
    masks=st.integers(1, 6).flatmap(
        lambda length: st.lists(st.lists(st.booleans(), min_size=length, max_size=length).filter(any), min_size=1)
    ),
    seed=st.integers(0, 1000),
    name=st.sampled_from(sorted(POOLS)),
)
def test_pooling_is_a_plain_loop_whatever_the_mask(masks: list[list[bool]], seed: int, name: str) -> None:
    pool, plain = POOLS[name]
    states = torch.randn(len(masks), len(masks[0]), 3, generator=torch.Generator().manual_seed(seed))
    expected = [
        plain([state for state, kept in zip(row, mask, strict=True) if kept])
        for row, mask in zip(states, masks, strict=True)
    ]
    torch.testing.assert_close(pool(states, torch.tensor(masks)), torch.stack(expected))


# ── The Director ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("reading", READINGS)
def test_padding_changes_no_output(reading: str, side: str) -> None:
    states, mask, rows = padded(side)
    made = director(reading)
    alone = [made(row.unsqueeze(0), torch.ones(1, len(row), dtype=torch.bool)) for row in rows]
    torch.testing.assert_close(made(states, mask), torch.cat(alone), rtol=1e-5, atol=1e-6)
    assert torch.equal(made(states, mask), made(torch.where(mask.unsqueeze(-1), states, 1e4), mask))


@pytest.mark.parametrize("reading", READINGS)
def test_padding_gets_no_gradient_and_what_is_read_does(reading: str) -> None:
    states, mask, _ = padded("right")
    states.requires_grad_(True)
    made = director(reading)
    made(states, mask).square().sum().backward()
    assert states.grad is not None
    moved = states.grad.abs().sum(dim=-1) > 0
    last = torch.nn.functional.one_hot(torch.tensor(LENGTHS) - 1, max(LENGTHS)).bool()
    assert torch.equal(moved, last if reading == "last" else mask)
    assert all(parameter.grad is not None and parameter.grad.ne(0).any() for parameter in made.parameters())


def test_attention_is_the_softmax_of_the_querys_scores() -> None:
    states, mask, rows = padded("right")
    made = director("attention")
    assert isinstance(made.pooling, Attention)
    pooled = []
    for row in rows:
        normalized = (row - row.mean(-1, keepdim=True)) / (row.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        weights = (normalized @ made.pooling.query.weight[0]).exp()
        pooled.append((weights.unsqueeze(-1) * row).sum(0) / weights.sum())
    torch.testing.assert_close(made(states, mask), made.mlp(torch.stack(pooled)), rtol=1e-4, atol=1e-5)


def test_the_readings_differ() -> None:
    states, mask, _ = padded("right")
    found = {reading: director(reading) for reading in READINGS}
    for one in found.values():  # the same head for each
        one.mlp.load_state_dict(found["mean"].mlp.state_dict())
    outputs = [one(states, mask) for one in found.values()]
    for first in range(len(outputs)):
        for second in range(first):
            # A row of one token is read the same by all; the others are not.
            same = torch.isclose(outputs[first], outputs[second], atol=1e-5).all(dim=1)
            assert same.tolist() == [length == 1 for length in LENGTHS]


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_outputs_are_float32_whatever_the_states(reading: str, dtype: torch.dtype) -> None:
    states, mask, _ = padded("right", filler=1.0)
    made = director(reading, num_outputs=1)
    found = made(states.to(dtype), mask)
    assert found.dtype == torch.float32
    assert found.shape == (len(LENGTHS), 1)
    torch.testing.assert_close(found, made(states, mask), rtol=0.1, atol=0.1)


def test_the_head_does_not_see_the_scale_of_the_states() -> None:
    torch.manual_seed(0)
    head = Mlp(HIDDEN, 2)
    states = torch.randn(4, HIDDEN)
    torch.testing.assert_close(head(states), head(1000 * states), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(head(states), head(states.flip(-1)))


# ── The latent query ─────────────────────────────────────────────────────────────────────────────────────────


def latent(hidden_size: int = HIDDEN) -> Latent:
    torch.manual_seed(0)
    made = Latent(hidden_size)
    torch.nn.init.normal_(made.query)
    return made


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_latent_query_reads_no_padding(side: str) -> None:
    states, mask, rows = padded(side)
    made = latent()
    alone = [made(row.unsqueeze(0), torch.ones(1, len(row), dtype=torch.bool)) for row in rows]
    torch.testing.assert_close(made(states, mask), torch.cat(alone), rtol=1e-4, atol=1e-5)
    states.requires_grad_(True)
    made(states, mask).square().sum().backward()
    assert states.grad is not None
    assert torch.equal(states.grad.abs().sum(dim=-1) > 0, mask)
    assert all(weights.grad is not None for weights in made.parameters())


def test_a_latent_query_reads_three_times_by_what_it_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    states, mask, rows = padded("right")
    made = latent()
    expected = []
    for row in rows:
        normalized, state = made.norm_states(row), made.query
        for _ in range(3):
            query, keys, values = (
                part @ weights.T + bias
                for part, weights, bias in zip(
                    (made.norm_query(state), normalized, normalized),
                    made.attention.in_proj_weight.chunk(3),
                    made.attention.in_proj_bias.chunk(3),
                    strict=True,
                )
            )
            read = torch.softmax(keys @ query / HIDDEN**0.5, dim=0) @ values
            state = state + made.attention.out_proj(read)
            state = state + made.mlp(state)
        expected.append(state)
    torch.testing.assert_close(made(states, mask), torch.stack(expected), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("predgen.methods.poolings.LATENT_ROUNDS", 1)
    assert not torch.allclose(made(states, mask), torch.stack(expected), atol=1e-3)


@pytest.mark.parametrize(("hidden_size", "heads"), [(576, 9), (640, 10), (16, 1), (100, 1), (384, 6)])
def test_a_latent_querys_heads_divide_its_size(hidden_size: int, heads: int) -> None:
    assert latent(hidden_size).attention.num_heads == heads
