"""Scores: those of all targets are exact, and the likeliest first come near them."""

from functools import cache

import pytest
import torch

from predgen import scoring
from predgen.backbones import Memory
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.codec import Codec
from predgen.distributions import NumberDistribution
from predgen.scoring import best_first, score_all
from predgen.targets import Number
from predgen.trie import Trie, fits

from .shapes import (
    FAMILIES,
    LABEL,
    NUMBER,
    ROADS,
    TARGETS,
    all_paths,
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
    backbone.choose_road()
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
        backbone.masks_trees = masks
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
    backbone.choose_road()
    assert not backbone.plain
    assert backbone.masks_trees is masks


@torch.no_grad()
def test_the_full_vocabulary_reports_the_mass_on_labels() -> None:
    backbone = backbone_of("llama")
    prompts = backbone.collate(ragged_prompts(250))
    method = tiny_method("generator", backbone, LABEL, full_vocabulary=True)
    answers = method.answer(*prompts, probabilities=True)
    assert answers.probabilities is not None
    assert answers.valid_mass is not None
    torch.testing.assert_close(answers.probabilities.sum(dim=1), torch.ones(5, dtype=torch.float64))
    scores = score_all(backbone, backbone.read(*prompts), Trie(method.codec, full=True))
    torch.testing.assert_close(answers.valid_mass, scores.double().exp().sum(dim=1))
    exact = tiny_method("generator", backbone, LABEL).answer(*prompts, probabilities=True)
    assert exact.valid_mass is None


# ---- the likeliest first


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("family", ["llama", "mistral"])
@torch.no_grad()
def test_the_likeliest_numbers_first_come_to_the_distribution_of_all(family: str, full: bool) -> None:
    backbone = backbone_of(family)
    backbone.choose_road()
    codec = Codec(NUMBER, backbone)
    trie = Trie(codec, full=full)
    memory = read(backbone, ragged_prompts(250))
    exact = NumberDistribution.of_all(score_all(backbone, memory, trie), trie.numbers)
    found = best_first(backbone, memory, codec, mass=1.0, max_nodes=10_000, full=full)
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
    found = best_first(backbone, memory, codec, mass=0.6, max_nodes=10_000)
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
    assert not fits(long.target)
    memory = read(backbone, ragged_prompts(250))
    found = best_first(backbone, memory, long, max_nodes=600)
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
    at_once = best_first(backbone, memory, codec, max_nodes=60)
    monkeypatch.setattr(scoring, "TREE_CELLS", 1)
    alone = best_first(backbone, memory, codec, max_nodes=60)
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
