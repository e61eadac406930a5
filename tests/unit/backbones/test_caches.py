"""Caches that grow in place are the same as caches that copy, whoever forks them."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from predgen.backbones.caches import ROOM, detached, fork, repeated, roomy_cache, rows_of

# What is done: grow a fork of one of the caches so far (by some columns), take rows of it, or forget it.
STEPS = st.lists(
    st.tuples(st.sampled_from(["grow", "rows", "repeat", "detach", "forget"]), st.integers(0, 20), st.integers(1, 12)),
    max_size=14,
)


def states_of(cache: DynamicCache) -> list[Tensor]:
    return [part for layer in cache.layers for part in (layer.keys, layer.values)]


@pytest.mark.slow
@settings(max_examples=40)  # each forgets by a whole garbage collection, which takes long in a process full of models
@given(STEPS)
@torch.no_grad()
def test_what_is_in_a_cache_is_what_a_plain_one_has(steps: list[tuple[str, int, int]]) -> None:
    generator = torch.Generator().manual_seed(0)

    def grown(caches: tuple[DynamicCache, DynamicCache], columns: int) -> tuple[DynamicCache, DynamicCache]:
        forks = fork(caches[0]), fork(caches[1])
        rows = caches[0].layers[0].keys.shape[0] if caches[0].layers else 2
        for layer in range(2):
            new = [torch.randn(rows, 1, columns, 3, generator=generator) for _ in range(2)]
            for one in forks:
                one.update(*new, layer)
        return forks

    pairs = [grown((roomy_cache(), DynamicCache()), 5)]
    for what, which, number in steps:
        pair = pairs[which % len(pairs)]
        if what == "grow":
            pairs.append(grown(pair, number))
        elif what == "rows":
            rows = torch.arange(number) % pair[0].layers[0].keys.shape[0]
            pairs.append((rows_of(pair[0], rows), rows_of(pair[1], rows)))
        elif what == "repeat":
            first = torch.tensor([0])
            pairs.append(tuple(repeated(rows_of(one, first), number) for one in pair))  # type: ignore[arg-type]
        elif what == "detach":
            pairs.append((detached(pair[0]), detached(pair[1])))
        elif len(pairs) > 1:
            pairs.remove(pair)
            del pair
            gc.collect()
        for roomy, plain in pairs:  # nothing that lives has changed
            assert roomy.get_seq_length() == plain.get_seq_length()
            assert all(map(torch.equal, states_of(roomy), states_of(plain)))


@torch.no_grad()
def test_growth_is_in_place_while_no_other_fork_has_grown() -> None:
    cache = roomy_cache()
    cache.update(torch.ones(2, 1, 5, 3), torch.ones(2, 1, 5, 3), 0)
    place = cache.layers[0].keys.data_ptr()
    new = torch.zeros(2, 1, 2, 3)
    first = fork(cache)
    first.update(new, new, 0)
    assert first.layers[0].keys.data_ptr() == place
    second = fork(cache)
    second.update(new, new, 0)
    assert second.layers[0].keys.data_ptr() != place  # the first lives
    del first
    third = fork(cache)
    third.update(new, new, 0)
    assert third.layers[0].keys.data_ptr() == place
    long = torch.zeros(2, 1, ROOM, 3)
    third.update(long, long, 0)
    assert third.layers[0].keys.data_ptr() != place  # no room for so much
    assert cache.layers[0].keys.shape[2] == 5


def test_with_gradients_nothing_is_written_over() -> None:
    cache = roomy_cache()
    first = torch.ones(2, 1, 5, 3, requires_grad=True)
    keys, values = cache.update(first * 2, first * 3, 0)
    seen = (keys * values).square().sum()
    with torch.no_grad():  # a sampling pass
        passed = fork(detached(cache))
        passed.update(torch.zeros(2, 1, 4, 3), torch.zeros(2, 1, 4, 3), 0)
    forks = [fork(cache), fork(cache)]
    losses = []
    for number, one in enumerate(forks):
        keys, values = one.update(first[:, :, :1] * number, first[:, :, :1], 0)
        losses.append((keys * values).sum())
    (seen + losses[0] + losses[1]).backward()
    assert first.grad is not None
    expected = torch.ones(2, 1, 5, 3, requires_grad=True)
    total = (expected * 2 * expected * 3).square().sum()
    for number in range(2):
        start = expected[:, :, :1]
        total = total + (expected * 2 * expected * 3).sum() + (start * number * start).sum()
    total.backward()
    torch.testing.assert_close(first.grad, expected.grad)
