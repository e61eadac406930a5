"""The unrolled automaton: every target is a leaf, and its score is the sum of the decisions on its path."""

import hashlib
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from predgen.codec.codec import Codec
from predgen.codec.kinds import is_enumerable
from predgen.codec.number import NumberPaths
from predgen.codec.trie import Trie
from predgen.targets.label import Label
from predgen.targets.number import Number
from predgen.targets.record import Target
from tests.unit.codec.test_codec import VOCAB_SIZE, Vocabulary, targets, values_of, walk

PROPERTY = settings(max_examples=40)
STARS = Number(0.0, 5.0, decimals=2)


def logits_after(prefix: Sequence[int]) -> Tensor:
    """Returns logits that depend on the whole prefix and on nothing else."""
    seed = int.from_bytes(hashlib.sha256(str(tuple(prefix)).encode()).digest()[:7], "big")
    return 3 * torch.randn(VOCAB_SIZE, generator=torch.Generator().manual_seed(seed))


def prefix_of(trie: Trie, node: int) -> list[int]:
    return trie.symbols[trie.ancestors[node]].tolist()


def scores_of(trie: Trie) -> Tensor:
    nodes = [logits_after(prefix_of(trie, node)) for node in range(trie.num_nodes)]
    stacked = torch.stack(nodes) if nodes else torch.zeros(0, VOCAB_SIZE)
    return trie.log_probabilities(logits_after(()).unsqueeze(0), stacked.unsqueeze(0))[0]


@given(targets(), st.booleans())
@PROPERTY
def test_every_target_is_a_leaf_with_the_score_of_its_path(target: Target, full: bool) -> None:
    codec = Codec(target, Vocabulary())
    trie = Trie(codec, full=full)
    values = [value for value, _ in values_of(target)]
    if isinstance(target, Number | Label):
        assert list(trie.values) == values
    else:  # in the order of the tree
        assert len(trie.values) == len(values)
        assert all(value in trie.values for value in values)
        values = list(trie.values)
    assert codec.num_targets == len(values) == len(walk(codec))
    assert trie.numbers.tolist() == (values if isinstance(target, Number) else [])
    scores = scores_of(trie)
    for value, score in zip(values, scores.tolist(), strict=True):
        expected, state = 0.0, 0
        path = codec.path(value)
        for position, symbol in enumerate(path):
            rows = codec.log_probabilities(logits_after(path[:position]), torch.tensor(state), full=full)
            expected += float(rows[symbol])
            state = codec.rows[state][symbol]
        assert score == pytest.approx(expected, abs=1e-4)
    total = float(scores.exp().sum())
    assert total < 1 if full else total == pytest.approx(1, abs=1e-5)


@given(targets(), st.booleans())
@PROPERTY
def test_no_node_is_written_for_nothing(target: Target, full: bool) -> None:
    codec = Codec(target, Vocabulary())
    trie = Trie(codec, full=full)
    paths = walk(codec)
    for node in range(trie.num_nodes):
        prefix = prefix_of(trie, node)
        below = [path for path in paths if list(path[: len(prefix)]) == prefix]
        # Something is still decided below it: two targets go through it, or the end is still to be scored.
        assert len(below) > 1 or (full and below)
        assert int(trie.depths[node]) == len(prefix)


def test_the_numbers_of_a_rating_take_few_nodes() -> None:
    trie = Trie(Codec(STARS, Vocabulary()))
    assert len(trie.values) == 501
    # One for each first digit below 5 and its point, and their ten tenths; 5 can only go on with .00.
    assert trie.num_nodes == 5 + 5 + 50


def test_too_many_numbers_are_refused_and_labels_never(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec(Number(0.0, 10.0, decimals=8), Vocabulary())
    assert not is_enumerable(codec.target)
    assert codec.num_targets == 1_000_000_001
    with pytest.raises(ValueError, match=r"at most 10,000 values, found 1,000,000,001"):
        Trie(codec)
    monkeypatch.setattr(NumberPaths, "MOST_VALUES", 2)
    assert is_enumerable(Label(("a", "b", "c"), ("a", "b", "c")))


def test_the_order_of_labels_is_the_targets_own() -> None:
    label = Label((2, True, "x"), ("zz", "a", "zza"))
    assert Trie(Codec(label, Vocabulary())).values == (2, True, "x")
