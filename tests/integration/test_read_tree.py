"""Prompts and a tree in one forward: the states, logits and gradients of a read and a write after it."""

from typing import Any

import pytest
import torch

from predgen.backbones import Backbone, Memory
from predgen.backbones.self_check import Sample
from predgen.writing.scoring import read_and_score_tree, score_tree
from predgen.writing.symbols import SymbolModel
from predgen.writing.targets import Decoding
from tests.helpers.shapes import (
    FAMILIES,
    TARGETS,
    VALUES,
    batch_for,
    count_forwards,
    ragged_prompts,
    tiny_backbone,
    tiny_method,
)
from tests.integration.test_cross_attending import new_backbone, prompts_of


def backbone_of(shape: str) -> Backbone:
    backbone = tiny_backbone(shape) if shape not in ("t5", "bert") else new_backbone(shape)
    backbone.choose_path()
    return backbone


@pytest.mark.parametrize("shape", [*FAMILIES, "mistral", "gemma2", "bloom", "mpt", "t5", "bert"])
def test_it_is_a_read_and_a_write(shape: str) -> None:
    backbone = backbone_of(shape)
    prompt = backbone.collate(prompts_of(backbone)[:2])
    tokens, depths, ancestors = Sample.of(backbone.num_target_tokens, backbone.num_target_tokens, backbone.device).tree
    memory, written = backbone.read_tree(prompt, tokens, depths, ancestors)
    apart = backbone.read(*prompt)
    expected = backbone.write_tree(apart, tokens, depths, ancestors)
    for found, wanted in (
        (memory.state, apart.state),
        (memory.logits, apart.logits),
        (memory.prompt_states[prompt[1]], apart.prompt_states[prompt[1]]),
        (written.states, expected.states),
        (written.logits, expected.logits),
        # What is written over either memory is the same.
        (backbone.write(memory, *first_of(tokens)).states, backbone.write(apart, *first_of(tokens)).states),
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def first_of(tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return tokens[:, :2], torch.ones_like(tokens[:, :2]).bool()


@pytest.mark.parametrize("kind", list(TARGETS))
def test_scores_and_gradients_are_those_of_a_write_apart(kind: str) -> None:
    method: Any = tiny_method("generator", backbone_of("llama"), TARGETS[kind])
    batch = batch_for(method, ragged_prompts(200), VALUES[kind])
    trie, symbols = method.writer.trie_of(0), method.writer.symbols

    def gradients(tree: Any) -> list[torch.Tensor]:
        method.zero_grad()
        method.writer.loss_of_tree(tree, batch.gold, batch.truth).mean().backward()
        return [one.grad.clone() for one in method.parameters() if one.grad is not None]

    assert count_forwards(symbols.backbone.model, lambda: read_and_score_tree(symbols, *prompt_of(batch), trie)) == 1
    one = read_and_score_tree(symbols, *prompt_of(batch), trie)[1]
    two = score_tree(symbols.backbone, symbols.read(*prompt_of(batch)), trie)
    torch.testing.assert_close(one.log_probabilities, two.log_probabilities, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradients(one), gradients(two), rtol=1e-3, atol=1e-4)


def prompt_of(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return batch.prompt, batch.prompt_mask


def test_a_tree_that_is_too_large_is_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    method: Any = tiny_method("generator", backbone_of("llama"), TARGETS["number"])
    batch = batch_for(method, ragged_prompts(200), VALUES["number"])
    trie, symbols = method.writer.trie_of(0), method.writer.symbols
    expected = read_and_score_tree(symbols, *prompt_of(batch), trie)[1]
    monkeypatch.setattr("predgen.writing.scoring.TREE_CELLS", 1)
    found = read_and_score_tree(symbols, *prompt_of(batch), trie)[1]
    torch.testing.assert_close(found.log_probabilities, expected.log_probabilities, rtol=1e-4, atol=1e-4)


def read_then_write(self: SymbolModel, *given: torch.Tensor) -> tuple[Memory, torch.Tensor]:
    memory = self.read(*given[:2])
    return memory, self.write(memory, *given[2:]).logits if given[2].shape[1] else memory.logits.unsqueeze(1)


@pytest.mark.parametrize("kind", list(TARGETS))
def test_the_generators_loss_is_the_same_whichever_way_it_learns(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for apart in (False, True):
        method: Any = tiny_method("generator", backbone_of("llama"), TARGETS[kind])
        if apart:
            monkeypatch.setattr(SymbolModel, "read_and_write", read_then_write)
        batch = batch_for(method, ragged_prompts(200), VALUES[kind])
        losses = method(batch)
        losses["loss"].backward()
        found.append((losses["loss"].detach(), [one.grad for one in method.parameters() if one.grad is not None]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", list(TARGETS))
def test_a_generator_learns_in_one_forward(kind: str) -> None:
    method: Any = tiny_method("generator", backbone_of("llama"), TARGETS[kind])
    batch = batch_for(method, ragged_prompts(200), VALUES[kind])
    assert count_forwards(method.backbone.model, lambda: method(batch)) == 1


@pytest.mark.parametrize("kind", list(TARGETS))
def test_the_accuracies_of_a_tree_are_those_of_a_write(kind: str) -> None:
    method: Any = tiny_method("generator", backbone_of("llama"), TARGETS[kind])
    batch = batch_for(method, ragged_prompts(200), VALUES[kind])
    tree = read_and_score_tree(method.writer.symbols, *prompt_of(batch), method.writer.trie_of(0))[1]
    found = method.writer.accuracies_of_tree(tree, batch.gold)
    memory = method.writer.symbols.read(*prompt_of(batch))
    written = method.writer.write(memory, Decoding("trie"), with_states=False)
    expected = method.writer.accuracies(memory, batch.gold, written.decoded)
    assert {name: float(one) for name, one in found.items()} == {name: float(one) for name, one in expected.items()}
