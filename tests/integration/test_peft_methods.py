"""Every PEFT method with every method and kind of backbone: fitted, saved, loaded, the same to the bit, heads too."""

from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import predgen
from predgen.adapters import apply_peft, merge_update, unmerge_update
from predgen.backbones import Backbone
from predgen.methods import Method
from tests.helpers.shapes import (
    FAMILIES,
    NUMBER,
    VALUES,
    batch_for,
    byte_level_tokenizer,
    checkpoint_activations,
    relative_difference,
    save_model,
    tiny_backbone,
    tiny_method,
    tiny_model,
)
from tests.helpers.tables import reviews
from tests.integration.test_adapters import matrix, word_level_backbone
from tests.integration.test_cross_attending import new_backbone, prompts_of, save_family

UPDATES = ("lora", "dora", "adalora", "rocoft")
METHODS = ("predictor", "generator", "predgen")
SHAPES = ("llama", "gpt2", "t5", "bert")
SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 4, "quiet": True, "device": "cpu"}
SIZES: dict[str, Any] = {"lora_rank": 2, "rocoft_rank": 2}
# Each once in the fast tests.
SOME = {("dora", "predictor", "t5"), ("adalora", "generator", "bert"), ("rocoft", "predgen", "gpt2")}


def backbone_of(shape: str) -> Backbone:
    return tiny_backbone(shape) if shape in ("llama", "gpt2") else new_backbone(shape)


def folder_of(shape: str, folder: Path) -> str:
    if shape in ("t5", "bert"):
        return save_family(shape, folder)
    tokenizer = byte_level_tokenizer()
    return save_model(folder, tiny_model(shape, len(tokenizer)), tokenizer)


def cases() -> list[Any]:
    every = [(peft, method, shape) for peft in UPDATES for method in METHODS for shape in SHAPES]
    return [pytest.param(*one, marks=() if one in SOME else pytest.mark.slow) for one in every]


@pytest.mark.parametrize(("peft", "method", "shape"), cases())
def test_fit_save_load_predict_is_equal_to_the_bit(tmp_path: Path, peft: str, method: str, shape: str) -> None:
    base = folder_of(shape, tmp_path / "base")
    settings = {**SMALL, **SIZES, "backbone": base, "method": method, "peft": peft}
    model = predgen.fit(reviews(40), "stars", **settings)
    model.save(tmp_path / "model")
    torch.manual_seed(99)
    again = predgen.load(tmp_path / "model", device="cpu")
    rows = reviews(15, seed=3)
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)
    saved = load_file(tmp_path / "model" / "weights.safetensors")
    for name, one in model.method.named_parameters():
        assert torch.equal(one, again.method.get_parameter(name)), name
        assert (name in saved) == one.requires_grad, name
    # What is not pretrained was trained from the seed's draw, and is there.
    untrained = predgen.fit(reviews(40), "stars", **{**settings, "learning_rate": 1e-30, "head_learning_rate": 1e-30})
    heads = {id(one) for one in model.method.heads()}
    names = {name for name, one in model.method.named_parameters() if id(one) in heads and one.requires_grad}
    assert {name.partition(".")[0] for name in names} == {
        ("predictor", "bert"): {"head"},
        ("predgen", "bert"): {"director", "backbone"},
        ("generator", "bert"): {"backbone"},
    }.get((method, shape), {"predictor": {"head"}, "generator": set(), "predgen": {"director"}}[method])
    for name in names:
        assert not torch.equal(saved[name], untrained.method.get_parameter(name)), f"{name} was not trained"
    marks = {"lora": ".lora_", "dora": "magnitude_vector", "adalora": ".lora_E.", "rocoft": ".rocoft_delta"}
    updates = [name for name in saved if marks[peft] in name]
    assert updates
    assert any(not torch.equal(saved[name], untrained.method.get_parameter(name)) for name in updates)


# ---- both roads


def with_update(peft: str, backbone: Backbone, name: str = "predgen", scale: float = 0.1) -> Method:
    """Returns a method whose update is random, and not zero as at the start."""
    method = tiny_method(name, backbone, NUMBER)
    torch.manual_seed(0)
    apply_peft(backbone, peft, rank=2, writes=name != "predictor")  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=scale)
    return method


@pytest.mark.parametrize(
    ("family", "peft"),
    [*((family, "lora") for family in FAMILIES), *product(("llama", "gpt2"), ("dora", "adalora", "rocoft"))],
)
def test_the_roads_stay_equal(family: str, peft: str) -> None:
    found = []
    for plain, checkpoint in ((False, False), (True, False), (False, True)):
        method = with_update(peft, tiny_backbone(family, plain=plain)).train()
        if checkpoint:
            checkpoint_activations(method.backbone.bare_model)  # type: ignore[attr-defined]
        loss = method(batch_for(method, prompts_of(method.backbone), VALUES["number"]))["loss"]
        loss.backward()
        gradients = {key: one.grad for key, one in method.named_parameters() if one.requires_grad}
        assert all(gradient is not None and float(gradient.norm()) > 0 for gradient in gradients.values())
        found.append((float(loss.detach()), gradients))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-4)
        for key, gradient in gradients.items():
            assert relative_difference(gradient, found[0][1][key]) < 1e-3, key


@pytest.mark.parametrize("peft", UPDATES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_merged_update_answers_the_same(shape: str, peft: str) -> None:
    method = with_update(peft, backbone_of(shape), "predictor").eval()
    batch = batch_for(method, prompts_of(method.backbone), VALUES["number"])

    def states() -> torch.Tensor:
        with torch.no_grad():
            return method.backbone.prompt_states(batch.prompt, batch.prompt_mask)

    frozen = {key: one.detach().clone() for key, one in method.named_parameters() if not one.requires_grad}
    before = states()
    versions = {key: method.get_parameter(key)._version for key in frozen}
    merge_update(method.backbone)
    assert relative_difference(states(), before) < (1e-6 if peft == "rocoft" else 1e-5)
    changed = [key for key, old in frozen.items() if not torch.equal(method.get_parameter(key), old)]
    assert changed
    assert all(method.get_parameter(key)._version > versions[key] for key in changed)
    unmerge_update(method.backbone)
    assert relative_difference(states(), before) < 1e-5
    if peft == "rocoft":
        assert all(torch.equal(method.get_parameter(key), old) for key, old in frozen.items())


# ---- added tokens


@pytest.mark.parametrize("peft", ["dora", "adalora"])
@pytest.mark.parametrize("tied", [False, True])
def test_rows_of_added_tokens_train(tied: bool, peft: str) -> None:
    method = tiny_method("predgen", word_level_backbone("llama", tied), NUMBER, full=True)
    apply_peft(method.backbone, peft, rank=2, writes=True)  # type: ignore[arg-type]
    before = {side: matrix(method.backbone, side) for side in ("input", "output")}  # type: ignore[arg-type]
    method.train()
    optimizer = torch.optim.AdamW([one for one in method.parameters() if one.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(6):
        method(batch_for(method, prompts_of(method.backbone), VALUES["number"]))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    for side, old in before.items():
        moved = (matrix(method.backbone, side) != old).any(dim=1).nonzero().flatten().tolist()  # type: ignore[arg-type]
        assert moved == method.backbone.added_token_ids, side
