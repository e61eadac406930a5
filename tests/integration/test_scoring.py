"""Scores: those of all targets are exact, and the likeliest first come near them."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from predgen.backbones import Memory
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.codec.codec import Codec
from predgen.codec.kinds import is_enumerable
from predgen.codec.trie import Trie
from predgen.config import build_config
from predgen.errors import ConfigError
from predgen.measures.distributions import NumberDistribution
from predgen.models.building import check_method
from predgen.targets.number import Number
from predgen.writing import scoring
from predgen.writing.scoring import best_first, row_groups, score_all, score_likeliest
from predgen.writing.symbols import SymbolModel
from tests.helpers.shapes import (
    FAMILIES,
    LABEL,
    NUMBER,
    ROADS,
    TARGETS,
    all_paths,
    answering_for,
    checkpoint_activations,
    count_forwards,
    path_of,
    ragged_prompts,
    relative_difference,
    run_alone,
    tiny_backbone,
    tiny_method,
)


@cache
def backbone_of(family: str, plain: bool = False, seed: int = 0) -> DecoderOnlyBackbone:
    return tiny_backbone(family, plain=plain, seed=seed)


def read(backbone: DecoderOnlyBackbone, prompts: list[list[int]]) -> Memory:
    return backbone.read(*backbone.collate(prompts))


# ---- scores of all targets


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("plain", ROADS)
@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("family", [*FAMILIES, "mistral", "gemma2", "bloom", "mpt"])
@torch.no_grad()
def test_the_scores_of_all_targets_equal_one_by_one_unpadded_scores(
    family: str, kind: str, plain: bool, full: bool
) -> None:
    backbone = backbone_of(family, plain)
    backbone.choose_path()
    codec = Codec(TARGETS[kind], backbone)
    trie = Trie(codec, full=full)
    prompts = ragged_prompts(backbone.model.config.vocab_size)
    scores = score_all(backbone, read(backbone, prompts), trie)
    paths = all_paths(backbone, codec.target)
    assert list(trie.values) == (list(LABEL.values) if kind == "label" else sorted(paths.values()))
    expected = torch.zeros_like(scores)
    columns = dict(enumerate(trie.values))
    if kind == "number":  # one full forward for every number and row: a few of them
        columns = {column: columns[column] for column in range(0, len(columns), 29)}
    for row, prompt in enumerate(prompts):
        for column, value in columns.items():
            path = path_of(paths, value)
            _, logits = run_alone(backbone.model, prompt, path)
            for position, token in enumerate(path):
                if full:
                    kept = logits[position]
                else:
                    followers = {one[position] for one in paths if list(one[:position]) == path[:position]}
                    kept = logits[position, sorted(followers)]
                expected[row, column] += logits[position, token] - kept.logsumexp(dim=0)
    looked_at = list(columns)
    torch.testing.assert_close(scores[:, looked_at], expected[:, looked_at], atol=2e-4, rtol=1e-5)
    total = scores.exp().sum(dim=1)
    if full:
        assert bool((total < 1).all())
    else:
        torch.testing.assert_close(total, torch.ones(len(prompts)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", [*FAMILIES, "mistral", "gemma2"])
def test_a_tree_has_the_gradients_of_its_branches(family: str, checkpointing: bool) -> None:
    found = []
    for masks in (True, False):
        backbone = tiny_backbone(family)
        if checkpointing:  # no cache then: prompt and tree go through one forward
            checkpoint_activations(backbone.model)
            backbone.train()
        backbone.capabilities = replace(backbone.capabilities, masks_trees=masks)
        trie = Trie(Codec(NUMBER, backbone))
        scores = score_all(backbone, read(backbone, ragged_prompts(250)), trie)
        (scores * torch.linspace(-1, 1, scores.shape[1])).sum().backward()
        found.append(torch.cat([one.grad.flatten() for one in backbone.parameters() if one.grad is not None]))
    assert relative_difference(*found) < 1e-4


@torch.no_grad()
def test_many_rows_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of("llama")
    trie = Trie(Codec(NUMBER, backbone))
    prompts = ragged_prompts(250)
    at_once = score_all(backbone, read(backbone, prompts), trie)
    monkeypatch.setattr(scoring, "TREE_CELLS", 1)
    forwards = count_forwards(backbone.model, lambda: score_all(backbone, read(backbone, prompts), trie))
    assert forwards == 1 + len(prompts)
    torch.testing.assert_close(score_all(backbone, read(backbone, prompts), trie), at_once, atol=1e-4, rtol=1e-5)
    monkeypatch.undo()
    assert count_forwards(backbone.model, lambda: score_all(backbone, read(backbone, prompts), trie)) == 2


@pytest.mark.parametrize(("family", "masks"), [("llama", True), ("mistral", True), ("bloom", False), ("mpt", False)])
def test_a_tree_is_masked_only_where_that_is_exact(family: str, masks: bool) -> None:
    backbone = tiny_backbone(family)
    backbone.choose_path()
    assert backbone.capabilities.cached
    assert backbone.capabilities.masks_trees is masks


@torch.no_grad()
def test_the_full_vocabulary_reports_the_mass_on_labels() -> None:
    backbone = backbone_of("llama")
    prompts = backbone.collate(ragged_prompts(250))
    method = tiny_method("generator", backbone, LABEL, full=True)
    answers = method.answer(*prompts, probabilities=True)
    assert answers.probabilities is not None
    assert answers.valid_mass is not None
    torch.testing.assert_close(answers.probabilities.sum(dim=1), torch.ones(5, dtype=torch.float64))
    scores = score_all(backbone, backbone.read(*prompts), Trie(method.codec, full=True))
    torch.testing.assert_close(answers.valid_mass, scores.double().exp().sum(dim=1))
    exact = tiny_method("generator", backbone, LABEL).answer(*prompts, probabilities=True)
    assert exact.valid_mass is None


# ---- only what begins with likely symbols


@pytest.mark.parametrize("mass", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["number", "label"])
@torch.no_grad()
def test_what_begins_with_likely_symbols_is_exact_and_the_rest_is_spread(kind: str, mass: float) -> None:
    backbone = backbone_of("llama")
    trie = Trie(Codec(TARGETS[kind], backbone))
    memory = read(backbone, ragged_prompts(250))
    exact = score_all(backbone, memory, trie).double().exp()
    found = score_likeliest(backbone, memory, trie, mass)
    probabilities = found.log_probabilities.double().exp()
    first = trie.paths[:, 0]
    ones = torch.ones(len(exact), dtype=torch.float64)
    torch.testing.assert_close(probabilities.sum(dim=1), ones, rtol=0, atol=1e-6)  # their logarithms are float32
    for row in range(len(exact)):
        for symbol in first.unique():
            alike = first == symbol
            share, expected = probabilities[row, alike], exact[row, alike]
            if bool(found.followed[row, alike].all()):
                torch.testing.assert_close(share, expected, atol=1e-6, rtol=1e-4)
            else:  # spread evenly, and nothing of it lost
                assert not bool(found.followed[row, alike].any())
                torch.testing.assert_close(share, (expected.sum() / len(share)).expand_as(share), atol=1e-6, rtol=1e-4)
        known = float(exact[row, found.followed[row]].sum())
        assert known == pytest.approx(float(found.covered[row]), abs=1e-5)
        assert known >= mass - 1e-5
        assert bool(found.followed[row, found.best()[row]])
    if kind == "number":
        assert bool((found.covered < 1).all())


@torch.no_grad()
def test_a_method_says_what_its_answers_cover() -> None:
    backbone = tiny_backbone("llama", std=0.15)
    prompts = backbone.collate(ragged_prompts(250))
    method = tiny_method("generator", backbone, NUMBER)
    whole = method.answer(*prompts, answering_for(method, "trie", ["mean"]))
    part = method.answer(*prompts, answering_for(method, "trie", ["mean"], trie_mass=0.6))
    assert whole.covered is not None
    assert part.covered is not None
    assert bool((whole.covered == 1).all())
    assert bool((part.covered >= 0.6 - 1e-6).all())
    assert bool((part.covered < 1).any())
    for one, other, covered in zip(whole.values, part.values, part.covered.tolist(), strict=True):
        # What is spread lies where it was, behind its first symbol, in a range of at most ten.
        assert abs(one - other) <= 10 * (1 - covered) + 1e-4


def test_a_share_of_the_mass_is_refused_where_forced_symbols_have_some() -> None:
    given = {"data.data": "x.csv", "data.target": "y", "method": "generator", "trie_mass": 0.9}
    check_method(build_config(given), NUMBER)
    for other in ({"writer_vocabulary": "full"}, {"decoding": "free"}):
        with pytest.raises(ConfigError, match="Expected trie_mass 1 with the softmax over the whole vocabulary"):
            check_method(build_config(given, other), NUMBER)


@torch.no_grad()
def test_the_softmax_over_all_tokens_is_written_whole() -> None:
    backbone = backbone_of("llama")
    trie = Trie(Codec(NUMBER, backbone), full=True)
    memory = read(backbone, ragged_prompts(250))
    found = score_likeliest(backbone, memory, trie, 0.5)
    assert torch.equal(found.log_probabilities, score_all(backbone, memory, trie))
    assert bool(found.followed.all())


@torch.no_grad()
def test_rows_whose_first_symbol_decides_write_nothing() -> None:
    backbone = backbone_of("llama")
    trie = Trie(Codec(Number(0.0, 5.0, decimals=2), backbone))
    memory = read(backbone, ragged_prompts(250))
    symbol = int(trie.paths[trie.values.index(5.0), 0])
    assert int((trie.paths[:, 0] == symbol).sum()) == 1  # 5 can only be 5.00
    sure = memory.logits.clone()
    sure[:3, int(trie.codec.symbols[symbol])] = 100.0
    found = score_likeliest(backbone, replace(memory, logits=sure), trie, 0.999)
    assert [trie.values[leaf] for leaf in found.best()[:3].tolist()] == [5.0] * 3
    exact = score_all(backbone, replace(memory, logits=sure), trie)
    torch.testing.assert_close(found.log_probabilities[found.followed], exact[found.followed], atol=1e-4, rtol=1e-4)
    sure[:] = sure[:1]
    assert (
        count_forwards(backbone.model, lambda: score_likeliest(backbone, replace(memory, logits=sure), trie, 0.9)) == 0
    )


@torch.no_grad()
def test_unlikely_beginnings_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of("llama")
    trie = Trie(Codec(NUMBER, backbone))
    memory = read(backbone, ragged_prompts(250))
    written: list[int] = []
    original = backbone.write_tree

    def counted(memory: Memory, tokens: torch.Tensor, *rest: torch.Tensor) -> object:
        written.append(tokens.shape[1])
        return original(memory, tokens, *rest)

    monkeypatch.setattr(backbone, "write_tree", counted)
    exact = score_likeliest(backbone, memory, trie, 1.0)
    assert bool((exact.covered == 1).all())
    at_once = score_likeliest(backbone, memory, trie, 0.5)
    assert written[0] == trie.num_nodes > written[1]
    monkeypatch.setattr(scoring, "TREE_CELLS", 1)
    alone = score_likeliest(backbone, memory, trie, 0.5)
    assert len(written) == 2 + len(memory.state)
    torch.testing.assert_close(alone.log_probabilities, at_once.log_probabilities, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(alone.covered, at_once.covered)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=12), st.integers(1, 12))
def test_groups_of_rows_write_the_fewest_tokens(num_nodes: list[int], most: int) -> None:
    groups = row_groups(num_nodes, most)
    assert sorted(row for group in groups for row in group) == list(range(len(num_nodes)))
    assert all(len(group) <= most for group in groups)

    def cost(parts: list[list[int]]) -> int:
        return sum(len(part) * max(num_nodes[row] for row in part) + scoring.WRITE_TOKENS for part in parts)

    every = list(range(len(num_nodes)))
    assert cost(groups) <= cost([every[start : start + most] for start in range(0, len(every), most)])
    by_length = sorted(every, key=lambda row: num_nodes[row])
    assert cost(groups) <= cost([by_length[start : start + most] for start in range(0, len(every), most)])


# ---- the likeliest first


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("family", ["llama", "mistral"])
@torch.no_grad()
def test_the_likeliest_numbers_first_come_to_the_distribution_of_all(family: str, full: bool) -> None:
    backbone = backbone_of(family)
    backbone.choose_path()
    codec = Codec(NUMBER, backbone)
    trie = Trie(codec, full=full)
    memory = read(backbone, ragged_prompts(250))
    exact = NumberDistribution.of_all(score_all(backbone, memory, trie), trie.numbers)
    found = best_first(SymbolModel(backbone, codec, full), memory, mass=1.0, max_nodes=10_000)
    torch.testing.assert_close(found.covered, torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(found.numbers, exact.numbers)
    torch.testing.assert_close(found.probabilities, exact.probabilities, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_mass_that_is_asked_for_is_reached_and_told() -> None:
    backbone = backbone_of("llama")
    codec = Codec(NUMBER, backbone)
    trie = Trie(codec)
    memory = read(backbone, ragged_prompts(250))
    exact = score_all(backbone, memory, trie).double().exp()
    found = best_first(SymbolModel(backbone, codec), memory, mass=0.6, max_nodes=10_000)
    assert bool((found.covered >= 0.6).all())
    for row in range(5):
        scored = {float(one): float(p) for one, p in zip(found.numbers[row], found.probabilities[row], strict=True)}
        known = sum(float(exact[row, trie.values.index(one)]) for one in scored if one in trie.values)
        # Middles of ranges may happen to be numbers too; what is covered was scored exactly.
        assert known >= float(found.covered[row]) - 1e-4
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(5, dtype=torch.float64))


@torch.no_grad()
def test_a_number_with_too_many_values_stops_at_its_tokens_and_says_what_it_covered() -> None:
    backbone = backbone_of("llama")
    long, short = (Codec(Number(0.0, 1.0, decimals=decimals), backbone) for decimals in (8, 2))
    assert not is_enumerable(long.target)
    memory = read(backbone, ragged_prompts(250))
    found = best_first(SymbolModel(backbone, long), memory, max_nodes=600)
    assert bool((found.covered < 1).all())
    assert bool((found.numbers.diff(dim=1) >= 0).all())
    assert bool(((found.numbers >= 0) & (found.numbers <= 1)).all())
    # The digits after the second move the mean by less than half a hundredth; the rest is of prefixes left unexpanded.
    trie = Trie(short)
    coarse = NumberDistribution.of_all(score_all(backbone, memory, trie), trie.numbers)
    assert float((found.mean() - coarse.mean()).abs().max()) < 0.02


@torch.no_grad()
def test_rows_that_would_need_much_memory_are_expanded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of("llama")
    codec = Codec(Number(-100.0, 100.0, decimals=6), backbone)
    memory = read(backbone, ragged_prompts(250))
    at_once = best_first(SymbolModel(backbone, codec), memory, max_nodes=60)
    monkeypatch.setattr(scoring, "TREE_CELLS", 1)
    alone = best_first(SymbolModel(backbone, codec), memory, max_nodes=60)
    torch.testing.assert_close(alone.covered, at_once.covered)
    torch.testing.assert_close(alone.mean(), at_once.mean())
    torch.testing.assert_close(alone.deviation(), at_once.deviation())


def test_the_range_of_a_prefix_is_that_of_the_numbers_that_begin_with_it() -> None:
    codec = Codec(NUMBER, backbone_of("llama"))
    texts = {NUMBER.to_text(units / 10): units / 10 for units in range(-25, 121)}
    for text in texts:
        for length in range(len(text)):
            beginning = [value for other, value in texts.items() if other.startswith(text[:length])]
            assert codec.range_of(codec.path(texts[text])[:length]) == (min(beginning), max(beginning))
