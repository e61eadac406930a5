"""What is trained: every trainable parameter moves, no frozen one does, added tokens train and come back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import predgen
from predgen.adapters import apply_peft
from predgen.backbones import find_source, load_backbone
from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.errors import BackboneError
from predgen.methods import Method
from predgen.methods.buckets import answer_all
from predgen.methods.weights import load_trainable_weights, trainable_weights
from predgen.names import PEFT_METHODS
from predgen.names.entries import PeftMethod
from predgen.writing.sampling import Draws
from tests.helpers.shapes import (
    FAMILIES,
    LABEL,
    NUMBER,
    TARGETS,
    VALUES,
    batch_for,
    byte_level_tokenizer,
    ragged_prompts,
    save_model,
    tiny_backbone,
    tiny_method,
    tiny_model,
    word_level_tokenizer,
)
from tests.helpers.tables import WORDS, reviews

METHODS = ("predictor", "generator", "predgen")


def adapted(name: str, peft: str, kind: str, backbone: DecoderOnlyBackbone, **settings: Any) -> Method:
    """Returns a method with its PEFT update, made in the order in which a run makes it."""
    method = tiny_method(name, backbone, TARGETS[kind], **settings)
    torch.manual_seed(0)
    apply_peft(backbone, peft, rank=2, writes=name != "predictor")  # type: ignore[arg-type]
    return method


def train(method: Method, kind: str, steps: int = 4) -> None:
    """Takes a few optimizer steps on random prompts, half of the tokens the model's own."""
    method.train()
    trainable = [parameter for parameter in method.parameters() if parameter.requires_grad]
    # Without decay, only a gradient moves a weight.
    optimizer = torch.optim.AdamW(trainable, lr=1e-2, weight_decay=0.0)
    rows = len(method.backbone.tokenizer)
    for step in range(steps):
        batch = batch_for(method, ragged_prompts(rows, seed=step), VALUES[kind])
        own = torch.rand(batch.gold.symbols.shape, generator=torch.Generator().manual_seed(step)) < 0.5
        method(batch, draws=Draws(own))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    method.eval()


def snapshot(method: Method) -> dict[str, tuple[bool, Tensor]]:
    return {name: (one.requires_grad, one.detach().clone()) for name, one in method.named_parameters()}


@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("peft", ["none", "lora"])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_trainable_parameter_moves_and_no_frozen_one(family: str, name: str, peft: str, kind: str) -> None:
    method = adapted(name, peft, kind, tiny_backbone(family))
    before = snapshot(method)
    train(method, kind)
    assert any(trains for trains, _ in before.values())
    for key, (trains, old) in before.items():
        new = dict(method.named_parameters())[key]
        assert bool(torch.isfinite(new).all()), key
        assert torch.equal(new, old) != trains, f"{key} {'did not move' if trains else 'moved'}"
    frozen = {key for key, (trains, _) in before.items() if not trains}
    if peft == "none":
        # An output matrix of its own has nothing to do where no logits are read.
        assert frozen == ({"backbone.model.lm_head.weight"} if (family, name) == ("llama", "predictor") else set())
    else:
        heads = {id(parameter) for parameter in method.heads()}
        trained = {key for key, one in method.named_parameters() if one.requires_grad and id(one) not in heads}
        assert trained
        assert all(".lora_" in key for key in trained)


@pytest.mark.parametrize("director", ["mean", "last", "attention"])
def test_every_part_of_each_director_moves(director: str) -> None:
    method = adapted("predgen", "lora", "number", tiny_backbone(), head=director)
    before = {key: old for key, (_, old) in snapshot(method).items() if key.startswith("director.")}
    train(method, "number")
    after = dict(method.named_parameters())
    assert len(before) == (7 if director == "attention" else 6)
    assert not any(torch.equal(after[key], old) for key, old in before.items())


@pytest.mark.parametrize("tied", [False, True])
def test_the_output_matrix_of_a_predictor_is_frozen_only_if_it_is_its_own(tied: bool) -> None:
    backbone = tiny_backbone("llama", tie_word_embeddings=tied)
    apply_peft(backbone, "none", rank=1, writes=False)
    assert backbone.model.get_output_embeddings().weight.requires_grad == tied
    assert backbone.model.get_input_embeddings().weight.requires_grad
    apply_peft(backbone, "none", rank=1, writes=True)
    assert backbone.model.get_output_embeddings().weight.requires_grad


def test_lora_starts_where_the_base_model_is() -> None:
    usual = tiny_method("generator", tiny_backbone(), NUMBER)
    changed = adapted("generator", "lora", "number", tiny_backbone())
    prompts = ragged_prompts(250)
    assert answer_all(usual, prompts, batch_size=4).written == answer_all(changed, prompts, batch_size=4).written


def test_a_model_without_linear_layers_is_refused() -> None:
    backbone = tiny_backbone("llama", num_hidden_layers=0)
    with pytest.raises(BackboneError, match="linear layers for LoRA, found none"):
        apply_peft(backbone, "lora", rank=2, writes=True)


def test_the_learning_rate_falls_with_the_width() -> None:
    for peft in PEFT_METHODS.values():
        widest = max(peft.learning_rates)
        for method in METHODS:
            assert peft.learning_rate(4 * widest, method) == pytest.approx(peft.learning_rate(widest, method) / 4)


def test_a_width_that_was_tuned_has_its_own_learning_rate_for_each_method() -> None:
    rates = PeftMethod("A", "a", "", {100: 0.5, 200: {"predictor": 0.1, "predgen": 0.2}})
    found = [rates.learning_rate(width, "predictor") for width in (10, 100, 140, 145, 200, 400)]
    assert found == [0.5, 0.5, 0.5, 0.1, 0.1, 0.05]
    assert rates.learning_rate(200, "predgen") == 0.2


# ---- added tokens


def word_level_backbone(family: str, tied: bool) -> DecoderOnlyBackbone:
    tokenizer = word_level_tokenizer()
    return DecoderOnlyBackbone(tiny_model(family, len(tokenizer), tie_word_embeddings=tied), tokenizer)


def matrix(backbone: DecoderOnlyBackbone, side: str) -> Tensor:
    """Returns the embeddings or the output matrix as the model uses it, the update of added rows included."""
    module = getattr(backbone.model, f"get_{side}_embeddings")()
    adapter = getattr(module, "token_adapter", None)
    weight: Tensor = module.weight if adapter is None else adapter.get_merged_weights(["default"])
    return weight.detach().clone()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_added_tokens_train_under_lora_and_come_back(family: str, tied: bool) -> None:
    # Over the whole vocabulary: over the allowed tokens alone, an end token that never has a choice has no gradient.
    method = adapted("predgen", "lora", "number", word_level_backbone(family, tied), full=True)
    added = method.backbone.added_token_ids
    others = [token for token in range(len(method.backbone.tokenizer)) if token not in added]
    assert len(added) == 11
    before = {side: matrix(method.backbone, side) for side in ("input", "output")}
    train(method, "number", steps=8)
    for side, old in before.items():
        new = matrix(method.backbone, side)
        assert torch.equal(new[others], old[others])
        moved = (new[added] != old[added]).any(dim=1)
        assert bool(moved.all()), (
            f"{side}: rows {[a for a, one in zip(added, moved, strict=True) if not one]} stood still"
        )

    torch.manual_seed(12345)
    again = adapted("predgen", "lora", "number", word_level_backbone(family, tied), full=True).eval()
    load_trainable_weights(again, trainable_weights(method))
    prompts = ragged_prompts(len(method.backbone.tokenizer), seed=9)
    batch = batch_for(method, prompts, VALUES["number"])
    logits = []
    for one in (method, again):
        with torch.no_grad():
            memory = one.backbone.read(batch.prompt, batch.prompt_mask)
            tokens = one.codec.symbols[batch.gold.symbols]
            logits.append(one.backbone.write(memory, tokens, batch.gold.mask).logits)
    assert torch.equal(*logits)
    first, second = (answer_all(one, prompts, batch_size=2) for one in (method, again))
    assert (first.values, first.written) == (second.values, second.written)


@pytest.mark.parametrize("tied", [False, True])
def test_logits_of_added_tokens_are_the_trained_ones(tied: bool) -> None:
    backbone = word_level_backbone("llama", tied)
    backbone.choose_path()
    assert backbone.capabilities.linear_head
    method = adapted("predgen", "lora", "number", backbone, full=True)
    train(method, "number", steps=8)
    prompts = backbone.collate(ragged_prompts(len(backbone.tokenizer), seed=9))
    added = torch.tensor(backbone.added_token_ids)
    with torch.no_grad():
        some, every = backbone.read(*prompts, added).logits, backbone.read(*prompts).logits
    torch.testing.assert_close(some, every[:, added])


@pytest.mark.parametrize("peft", ["none", "lora"])
@pytest.mark.parametrize("tied", [False, True])
def test_an_artifact_with_added_tokens_predicts_the_same(tmp_path: Path, tied: bool, peft: str) -> None:
    tokenizer = word_level_tokenizer(sorted({*WORDS["good"], *WORDS["bad"], "the", "film", "and", "more", "1"}))
    base = save_model(
        tmp_path / "base", tiny_model("llama", len(tokenizer), tie_word_embeddings=tied, std=0.2), tokenizer
    )
    settings = {"inputs": ["review"], "backbone": base, "peft": peft, "max_steps": 3, "device": "cpu", "quiet": True}
    model = predgen.fit(reviews(30), "stars", out=tmp_path / "model", max_prompt_tokens=64, **settings)
    torch.manual_seed(99)
    again = predgen.load(tmp_path / "model", device="cpu")
    rows = reviews(15, seed=3)
    assert model.predict(rows).equals(again.predict(rows))
    assert not model.predict(rows)["invalid"].any()
    repeated = predgen.fit(reviews(30), "stars", max_prompt_tokens=64, **settings)
    assert model.predict(rows).equals(repeated.predict(rows)), "the same seed gives the same numbers"


def test_nano_needs_no_added_token() -> None:
    backbone = load_backbone(find_source("builtin:nano"))
    method = tiny_method("generator", backbone, NUMBER)
    assert tiny_method("generator", backbone, LABEL).codec.num_symbols > 4
    assert backbone.added_token_ids == []
    apply_peft(backbone, "lora", rank=2, writes=True)
    assert {key.split(".lora_")[1][0] for key, one in method.named_parameters() if one.requires_grad} == {"A", "B"}


def test_a_tokenizer_of_its_own_is_left_alone() -> None:
    tokenizer = byte_level_tokenizer()
    size = len(tokenizer)
    method = adapted("generator", "lora", "number", DecoderOnlyBackbone(tiny_model("llama", size), tokenizer))
    assert len(tokenizer) == size
    assert len(method.backbone.model.get_input_embeddings().weight) == size
