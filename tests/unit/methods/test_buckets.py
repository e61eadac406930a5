"""The order of the rows, the padding that it saves, and batches that hold what the rows held."""

import itertools
import random
from collections.abc import Sequence
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

from predgen.backbones import Backbone, LayerStates, Memory, Written
from predgen.codec.codec import Codec
from predgen.errors import TrainingError
from predgen.methods.buckets import (
    CPU_BATCH_TOKENS,
    DEVICE_BATCH_TOKENS,
    BatchLimits,
    in_order,
    lacks_memory,
    run_in_buckets,
)
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.training.batches import BATCHES_PER_GROUP, BucketSampler, Collator, Examples

PROPERTY = settings(max_examples=80)
LENGTHS = st.lists(st.integers(1, 50), max_size=300)


class Letters(Backbone):
    """A backbone that only knows tokens, and pads on the side that it is told."""

    end_id = 1

    def __init__(self, side: str) -> None:
        super().__init__()
        self.side = side

    @classmethod
    def handles(cls, config: object) -> bool:
        raise AssertionError("no model is loaded")

    def choose_path(self) -> None:
        raise AssertionError("no model is loaded")

    def collate(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        length = max(map(len, prompts))
        tokens, mask = torch.zeros(len(prompts), length, dtype=torch.long), []
        for row, prompt in enumerate(prompts):
            place = 0 if self.side == "right" else length - len(prompt)
            tokens[row, place : place + len(prompt)] = torch.tensor(prompt)
            mask.append([place <= position < place + len(prompt) for position in range(length)])
        return tokens, torch.tensor(mask)

    def symbol_id(self, character: str) -> int:
        return ord(character)

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        return [[ord(one) for one in word] for word in words]

    def read(self, tokens: Tensor, mask: Tensor) -> Memory:
        raise AssertionError("batching runs no model and reads no text")

    def write(self, memory: Memory, tokens: Tensor, mask: Tensor) -> Written:
        raise AssertionError("batching runs no model and reads no text")

    def take(self, memory: Memory, rows: Tensor) -> Memory:
        raise AssertionError("batching runs no model and reads no text")

    def detach(self, memory: Memory) -> Memory:
        raise AssertionError("batching runs no model and reads no text")

    def tokenize_prompts(self, texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        raise AssertionError("batching runs no model and reads no text")

    def text_of(self, ids: Sequence[int]) -> str:
        raise AssertionError("batching runs no model and reads no text")

    def prompt_states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        raise AssertionError("batching runs no model and reads no text")

    def layer_states(self, tokens: Tensor, mask: Tensor, target: Tensor, target_mask: Tensor) -> LayerStates:
        raise AssertionError("batching runs no model and reads no text")

    def freeze_writer(self) -> None:
        raise AssertionError("batching trains nothing")

    def longest_prompt(self, num_target: int) -> int:
        raise AssertionError("batching cuts nothing")

    def add_token(self, piece: str) -> int:
        raise AssertionError("these letters are all there")


def order_of(lengths: Sequence[int], batch_size: int = 4, seed: int = 0, epoch: int = 0) -> list[int]:
    sampler = BucketSampler(lengths, batch_size, seed)
    sampler.set_epoch(epoch)
    assert len(sampler) == len(lengths)
    return list(sampler)


def padding_of(lengths: Sequence[int], order: Sequence[int], batch_size: int) -> int:
    """Returns the tokens of padding that the batches of an order need."""
    total = 0
    for start in range(0, len(order), batch_size):
        batch = [lengths[row] for row in order[start : start + batch_size]]
        total += max(batch) * len(batch) - sum(batch)
    return total


# ── The order of training ────────────────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(lengths=LENGTHS, batch_size=st.integers(1, 9), seed=st.integers(0, 10**9), epoch=st.integers(0, 100))
def test_every_row_comes_once(lengths: list[int], batch_size: int, seed: int, epoch: int) -> None:
    assert sorted(order_of(lengths, batch_size, seed, epoch)) == list(range(len(lengths)))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = [random.Random(row).randint(1, 50) for row in range(200)]
    sampler = BucketSampler(lengths, 4, seed=3)
    orders = []
    for epoch in range(4):
        torch.manual_seed(epoch)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert list(sampler) == orders[-1]
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert [order_of(lengths, seed=3, epoch=epoch) for epoch in range(4)] == orders
    assert torch.equal(torch.get_rng_state(), before)  # nor does it change what others draw
    distinct = {tuple(order_of(lengths, seed=seed, epoch=epoch)) for seed in range(4) for epoch in range(4)}
    assert len(distinct) == 16


def test_rows_of_like_length_are_batched_and_the_batches_are_shuffled() -> None:
    lengths = [random.Random(row).randint(1, 100) for row in range(1000)]
    found = order_of(lengths, batch_size=8)
    at_random = random.Random(0).sample(range(1000), 1000)
    assert padding_of(lengths, found, 8) < 0.15 * padding_of(lengths, at_random, 8)
    means = [sum(lengths[row] for row in found[start : start + 8]) / 8 for start in range(0, 1000, 8)]
    later_is_longer = sum(first < second for first, second in itertools.pairwise(means))
    assert 0.35 * len(means) < later_is_longer < 0.65 * len(means)


def test_the_short_batch_comes_last() -> None:
    # A short batch in the middle would split the likes that come after it.
    lengths = [10] * 50 + [1] * 53
    found = order_of(lengths, batch_size=10)
    mixed = sum(len({lengths[row] for row in found[start : start + 10]}) > 1 for start in range(0, 103, 10))
    assert mixed <= 1
    assert padding_of(lengths, found, 10) <= 9 * 9


def test_groups_mix_anew_in_every_epoch() -> None:
    lengths = list(range(1, 10 * 4 * BATCHES_PER_GROUP + 1))
    together = [
        {frozenset(found[start : start + 4]) for start in range(0, len(found), 4)}
        for found in (order_of(lengths, epoch=epoch) for epoch in range(2))
    ]
    assert len(together[0] & together[1]) < 0.05 * len(together[0])


# ── The order of prediction ──────────────────────────────────────────────────────────────────────────────────


def buckets(lengths: list[int], limits: BatchLimits) -> list[list[int]]:
    """Returns the batches that rows are taken in."""
    return run_in_buckets(lengths, limits, lambda rows: rows)[0]


def padded_tokens(lengths: list[int], batches: list[list[int]]) -> int:
    """Returns the tokens of some batches with their padding, which is what a model reads."""
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@PROPERTY
@given(lengths=LENGTHS, batch_size=st.integers(1, 9))
def test_buckets_hold_every_row_once_the_longest_first(lengths: list[int], batch_size: int) -> None:
    found = buckets(lengths, BatchLimits(batch_size))
    rows = [row for batch in found for row in batch]
    assert sorted(rows) == list(range(len(lengths)))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    assert [len(batch) for batch in found[:-1]] == [batch_size] * max(len(found) - 1, 0)
    assert all(1 <= len(batch) <= batch_size for batch in found)


@PROPERTY
@given(lengths=LENGTHS, rows=st.integers(1, 40), tokens=st.integers(1, 200))
def test_buckets_keep_to_a_budget_of_tokens(lengths: list[int], rows: int, tokens: int) -> None:
    found = buckets(lengths, BatchLimits(rows, tokens))
    order = [row for batch in found for row in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths, reverse=True)
    for place, batch in enumerate(found):
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or (len(batch) <= rows and len(batch) * longest <= tokens)
        # Nor is a batch smaller than it must be.
        assert place + 1 == len(found) or len(batch) == rows or (len(batch) + 1) * longest > tokens


@PROPERTY
@given(lengths=LENGTHS, rows=st.integers(1, 9), tokens=st.integers(1, 200))
def test_padding_is_counted_and_buckets_never_have_more_of_it(lengths: list[int], rows: int, tokens: int) -> None:
    as_they_come = in_order(len(lengths), rows)
    assert [row for batch in as_they_come for row in batch] == list(range(len(lengths)))
    assert all(len(batch) == rows for batch in as_they_come[:-1])
    counted = padding_of(lengths, list(range(len(lengths))), rows) + sum(lengths)
    assert padded_tokens(lengths, as_they_come) == counted
    by_length = padded_tokens(lengths, buckets(lengths, BatchLimits(rows)))
    assert sum(lengths) <= padded_tokens(lengths, buckets(lengths, BatchLimits(1))) <= by_length
    if len(lengths) % rows == 0:  # else the one batch of fewer rows may hold a long one
        assert by_length <= counted
    assert sum(lengths) <= padded_tokens(lengths, buckets(lengths, BatchLimits(rows, tokens)))


def test_rows_of_equal_length_need_no_padding() -> None:
    assert padded_tokens([7] * 10, buckets([7] * 10, BatchLimits(4, 20))) == 70
    assert [len(batch) for batch in buckets([7] * 10, BatchLimits(4, 20))] == [2] * 5
    assert padded_tokens([], buckets([], BatchLimits(4, 20))) == 0


def test_a_device_has_a_budget_of_its_own() -> None:
    cpu, other = torch.device("cpu"), torch.device("meta")
    assert BatchLimits.on(cpu, 7, None) == BatchLimits(7, CPU_BATCH_TOKENS)
    assert BatchLimits.on(other, 7, None) == BatchLimits(7, DEVICE_BATCH_TOKENS)
    assert BatchLimits.on(other, 7, 5) == BatchLimits(7, 5)


# ── Too little memory ────────────────────────────────────────────────────────────────────────────────────────


def lack() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@PROPERTY
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=120),
    limits=st.builds(BatchLimits, st.integers(1, 64), st.none() | st.integers(1, 400)),
    most_rows=st.integers(1, 20),
    most_tokens=st.integers(50, 300),
)
def test_what_does_not_fit_is_halved_and_nothing_is_lost(
    lengths: list[int], limits: BatchLimits, most_rows: int, most_tokens: int
) -> None:
    failed = []

    def run(rows: list[int]) -> list[int]:
        if len(rows) > most_rows or len(rows) * max(lengths[row] for row in rows) > most_tokens:
            failed.append(len(rows))
            raise lack()
        return rows

    before = BatchLimits(limits.rows, limits.tokens)
    with mock.patch("predgen.methods.buckets.release_memory"):  # which takes longer than all the rest
        parts, order = run_in_buckets(lengths, limits, run)
    assert [row for part in parts for row in part] == order
    assert sorted(order) == list(range(len(lengths)))
    assert (limits == before) == (not failed)
    assert limits.rows <= before.rows
    # Each fault halves a limit for good: they are few, whatever the number of batches.
    assert len(failed) <= 7 + 9


def test_a_lack_of_memory_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    taken = []

    def run(rows: list[int]) -> None:
        if len(rows) > 3:
            raise lack()
        taken.append(len(rows))

    limits = BatchLimits(16)
    caplog.set_level("WARNING", "predgen")
    run_in_buckets([5] * 20 + [3] * 10, limits, run)
    assert taken == [2] * 15
    assert limits.rows == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "a prediction batch of 16 rows of up to 5 tokens: going on with at most 2 rows." in caplog.text
    run_in_buckets([5] * 20, limits, run)
    assert len(caplog.records) == 1


def test_the_limit_that_bound_is_the_one_that_is_halved() -> None:
    by_tokens, by_rows, by_number = BatchLimits(100, 64), BatchLimits(8, 1000), BatchLimits(100, 1000)
    by_tokens.halve(8, 8)
    by_rows.halve(8, 8)
    by_number.halve(5, 8)
    assert (by_tokens.rows, by_tokens.tokens) == (100, 32)
    assert (by_rows.rows, by_rows.tokens) == (4, 1000)
    assert (by_number.rows, by_number.tokens) == (2, 1000)


def test_a_row_that_does_not_fit_and_other_faults_are_raised() -> None:
    def never(rows: list[int]) -> None:
        raise lack()

    def broken(rows: list[int]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(TrainingError, match="Expected one row at a time to fit into memory, found that it does not"):
        run_in_buckets([3] * 9, BatchLimits(4), never)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run_in_buckets([3] * 9, BatchLimits(4), broken)


def test_a_lack_of_memory_is_known_by_its_message() -> None:
    assert lacks_memory(lack())
    assert lacks_memory(torch.OutOfMemoryError("some other words"))
    assert lacks_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes."))
    assert lacks_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)."))
    assert not lacks_memory(RuntimeError("shapes differ"))
    assert not lacks_memory(ValueError("CUDA out of memory."))


# ── Batches ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_holds_its_rows(side: str) -> None:
    backbone = Letters(side)
    codec = Codec(Number(0.0, 500.0, 0), backbone)
    examples = Examples([[7], [8, 9, 10], [11, 12]], [3.0, 500.0, 42.0], torch.tensor([0.3, 50.0, 4.2]))
    batch = Collator(examples, backbone, codec)([2, 0, 1])["batch"]
    assert len(batch) == 3
    prompts = [row[mask].tolist() for row, mask in zip(batch.prompt, batch.prompt_mask, strict=True)]
    assert prompts == [[11, 12], [7], [8, 9, 10]]
    assert batch.prompt_mask[1].tolist() == ([True, False, False] if side == "right" else [False, False, True])
    # Targets are padded on the right, whatever the prompts are.
    assert batch.gold.mask.tolist() == [[True] * length + [False] * (4 - length) for length in (3, 2, 4)]
    written = [codec.read(row[mask].tolist()) for row, mask in zip(batch.gold.symbols, batch.gold.mask, strict=True)]
    assert written == [(42.0, "42"), (3.0, "3"), (500.0, "500")]
    assert batch.gold.states[:, 0].tolist() == [0, 0, 0]
    assert batch.gold.states[~batch.gold.mask].eq(codec.accepting_state).all()
    torch.testing.assert_close(batch.truth, torch.tensor([4.2, 0.3, 50.0]))


def test_an_epoch_of_batches_holds_every_row_with_its_own_answer() -> None:
    draw = random.Random(0)
    backbone = Letters("left")
    labels = Label(("a", "b", "c"), ("ant", "bee", "cicada"))
    truth = [draw.randrange(3) for _ in range(53)]
    prompts = [[row + 10] * draw.randint(1, 20) for row in range(53)]
    examples = Examples(prompts, [labels.values[one] for one in truth], torch.tensor(truth))
    assert len(examples) == 53
    assert examples.lengths == [len(prompt) for prompt in prompts]
    collator = Collator(examples, backbone, Codec(labels, backbone))
    loader = DataLoader(examples, batch_size=8, sampler=BucketSampler(examples.lengths, 8, seed=0), collate_fn=collator)
    seen = {}
    for inputs in loader:
        batch = inputs["batch"]
        for number, (tokens, mask) in enumerate(zip(batch.prompt, batch.prompt_mask, strict=True)):
            row = int(tokens[mask][0]) - 10
            symbols = batch.gold.symbols[number][batch.gold.mask[number]].tolist()
            seen[row] = (tokens[mask].tolist(), int(batch.truth[number]), collator.codec.read(symbols))
    assert seen == {
        row: (prompts[row], truth[row], (labels.values[truth[row]], labels.words[truth[row]])) for row in range(53)
    }
