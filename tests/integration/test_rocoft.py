"""RoCoFT: exact against whole weights with trained rows, frozen base, selection, merging, saving."""

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import predgen
from predgen.adapters import apply_peft, choose_by_magnitude, chosen_indices, merge_update, unmerge_update
from predgen.adapters.rocoft import RowColumnUpdate, updates_in
from predgen.backbones import Backbone
from predgen.errors import BackboneError
from predgen.methods import Method
from predgen.methods.buckets import answer_all
from predgen.methods.weights import load_trainable_weights, trainable_weights
from tests.helpers.shapes import NUMBER, VALUES, batch_for, relative_difference, tiny_backbone, tiny_method
from tests.helpers.tables import reviews
from tests.integration.test_adapters import matrix, word_level_backbone
from tests.integration.test_cross_attending import new_backbone, prompts_of, save_family

SHAPES = ("llama", "gpt2", "t5", "bert")
AXES = ("rows", "columns")
METHODS = ("predictor", "generator", "predgen")


def backbone_of(shape: str) -> Backbone:
    return tiny_backbone(shape) if shape in ("llama", "gpt2") else new_backbone(shape)


def adapted(name: str, shape: str, axis: str = "rows", *, seed: int = 0, **settings: Any) -> Method:
    method = tiny_method(name, backbone_of(shape), NUMBER)
    torch.manual_seed(seed)
    apply_peft(
        method.backbone,
        "rocoft",
        rank=2,
        writes=name != "predictor",
        axis=axis,  # type: ignore[arg-type]
        **settings,
    )
    return method


def train(method: Method, steps: int = 3) -> None:
    method.train()
    optimizer = torch.optim.AdamW([one for one in method.parameters() if one.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        method(batch_for(method, prompts_of(method.backbone), VALUES["number"]))["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    method.eval()


def outputs_of(method: Method) -> Tensor:
    """Returns the states of a batch: of its prompts, and of what is written where the method writes."""
    with torch.no_grad():
        batch = batch_for(method, prompts_of(method.backbone), VALUES["number"])
        if not method.writes:
            return method.backbone.prompt_states(batch.prompt, batch.prompt_mask)
        memory = method.backbone.read(batch.prompt, batch.prompt_mask)
        tokens = method.codec.symbols[batch.gold.symbols]
        return method.backbone.write(memory, tokens, batch.gold.mask).logits


# ---- one layer against a plain one


class WholeWeight(nn.Module):
    """The same update written plainly: a whole weight of which some rows or columns are a trainable copy."""

    def __init__(self, layer: nn.Linear | Conv1D, axis: str, indices: Tensor, biases: bool) -> None:
        super().__init__()
        weight = layer.weight.detach().clone()
        self.weight = weight.T if isinstance(layer, Conv1D) else weight
        self.axis, self.indices = axis, indices
        self.part = nn.Parameter(self.weight[indices] if axis == "rows" else self.weight[:, indices])
        self.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=biases)  # type: ignore[arg-type]

    def forward(self, states: Tensor) -> Tensor:
        weight = self.weight.clone()
        if self.axis == "rows":
            weight[self.indices] = self.part
        else:
            weight[:, self.indices] = self.part
        return states @ weight.T + self.bias


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("kind", ["linear", "conv1d"])
@pytest.mark.parametrize("axis", AXES)
def test_outputs_gradients_and_steps_are_those_of_whole_weights(axis: str, kind: str, biases: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 7) if kind == "linear" else Conv1D(7, 5)
    nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    indices = torch.tensor([1, 4])
    update = RowColumnUpdate(layer.requires_grad_(False), axis=axis, indices=indices, biases=biases)  # type: ignore[arg-type]
    plain = WholeWeight(layer, axis, indices, biases)
    before = copy.deepcopy(layer.state_dict())
    optimizers = [
        torch.optim.AdamW([one for one in part.parameters() if one.requires_grad], lr=0.1, weight_decay=0.0)
        for part in (update, plain)
    ]
    for step in range(3):
        states = [torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(step)) for _ in range(2)]
        found, expected = (part(one.requires_grad_()) for part, one in zip((update, plain), states, strict=True))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        for output in (found, expected):
            output.pow(2).sum().backward()
        torch.testing.assert_close(states[0].grad, states[1].grad, rtol=1e-6, atol=2e-6)
        expected_gradient = plain.part.grad if axis == "rows" else plain.part.grad.T  # type: ignore[union-attr]
        torch.testing.assert_close(update.rocoft_delta.grad, expected_gradient, rtol=1e-6, atol=2e-6)
        if biases:
            torch.testing.assert_close(update.rocoft_bias.grad, plain.bias.grad, rtol=1e-6, atol=2e-6)  # type: ignore[union-attr]
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        trained = plain.part.detach() if axis == "rows" else plain.part.detach().T
        was = plain.weight[indices] if axis == "rows" else plain.weight[:, indices].T
        torch.testing.assert_close(update.rocoft_delta.detach(), trained - was, rtol=1e-6, atol=1e-6)
        assert bool((update.rocoft_delta != 0).all())
    assert all(torch.equal(layer.state_dict()[name], values) for name, values in before.items())


@pytest.mark.parametrize("axis", AXES)
def test_a_layer_of_16_bits_has_an_update_of_32(axis: str) -> None:
    layer = nn.Linear(5, 7).to(torch.bfloat16).requires_grad_(False)
    update = RowColumnUpdate(layer, axis=axis, indices=torch.tensor([0]), biases=True)  # type: ignore[arg-type]
    nn.init.ones_(update.rocoft_delta)
    assert update.rocoft_delta.dtype == update.rocoft_bias.dtype == torch.float32  # type: ignore[union-attr]
    states = torch.ones(2, 5, dtype=torch.bfloat16)
    output = update(states)
    assert output.dtype == torch.bfloat16
    added = torch.tensor([5.0, *[0.0] * 6]) if axis == "rows" else torch.ones(7)
    torch.testing.assert_close((output - layer(states)).float(), added.expand(2, 7), rtol=0.0, atol=0.1)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_what_was_merged_comes_back_in_another_type(kind: str, axis: str) -> None:
    layer = nn.Linear(4, 4) if kind == "linear" else Conv1D(4, 4)
    before = {key: one.detach().clone() for key, one in layer.named_parameters()}
    update = RowColumnUpdate(layer.requires_grad_(False), axis=axis, indices=torch.tensor([1]), biases=True)  # type: ignore[arg-type]
    nn.init.ones_(update.rocoft_delta)
    nn.init.ones_(update.rocoft_bias)  # type: ignore[arg-type]
    update.merge()
    update.double()
    update.unmerge()
    assert not update.is_merged
    for key, one in layer.named_parameters():
        assert one.dtype == torch.float64
        assert torch.equal(one, before[key].double()), key


# ---- whole models


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_trains_merges_and_comes_back(shape: str, name: str, axis: str) -> None:
    method = adapted(name, shape, axis)
    assert all(type(one.base_layer) is Conv1D for one in updates_in(method)) == (shape == "gpt2")
    before = {key: (one.requires_grad, one.detach().clone()) for key, one in method.named_parameters()}
    at_start = outputs_of(method)
    train(method)
    for key, one in method.named_parameters():
        trains, old = before[key]
        assert torch.equal(one, old) != trains, f"{key} {'did not move' if trains else 'moved'}"
    deltas = [key for key, (trains, _) in before.items() if trains and "rocoft_delta" in key]
    assert len(deltas) == len(updates_in(method)) > 0
    heads = {id(one) for one in method.heads()}
    others = {key for key, one in method.named_parameters() if one.requires_grad and id(one) not in heads}
    assert all("rocoft_delta" in key or ".writer." in key for key in others)
    trained = outputs_of(method)
    assert not torch.allclose(trained, at_start, atol=1e-3)

    # The large weights of these models blow up rounding in float32 to 2e-6 (T5).
    method.double()
    expected = outputs_of(method)
    merge_update(method.backbone)
    assert relative_difference(outputs_of(method), expected) < 1e-6
    unmerge_update(method.backbone)
    method.float()
    merge_update(method.backbone)
    assert relative_difference(outputs_of(method), trained) < 5e-6
    weights = dict(method.named_parameters())
    assert any(not torch.equal(weights[key], old) for key, (trains, old) in before.items() if not trains)
    merge_update(method.backbone)  # a second time changes nothing
    unmerge_update(method.backbone)
    assert all(torch.equal(weights[key], old) for key, (trains, old) in before.items() if not trains)
    assert torch.equal(outputs_of(method), trained)

    again = adapted(name, shape, axis, seed=99).eval()
    load_trainable_weights(again, trainable_weights(method))
    assert torch.equal(outputs_of(again), trained)
    prompts = prompts_of(method.backbone)
    assert answer_all(again, prompts, batch_size=2).values == answer_all(method, prompts, batch_size=2).values


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_the_output_matrix_is_not_updated(shape: str) -> None:
    backbone = backbone_of(shape)
    linear = [one for one in backbone.model.modules() if isinstance(one, nn.Linear | Conv1D)]
    apply_peft(backbone, "rocoft", rank=2, writes=True)
    assert type(backbone.model.get_output_embeddings()) is nn.Linear
    assert len(updates_in(backbone)) == len(linear) - 1


def test_biases_train_where_there_are_some() -> None:
    with_biases, without = adapted("generator", "gpt2", biases=True), adapted("generator", "llama", biases=True)
    assert all(one.rocoft_bias is not None for one in updates_in(with_biases))
    assert all(one.rocoft_bias is None for one in updates_in(without))
    before = {key: one.detach().clone() for key, one in with_biases.named_parameters()}
    train(with_biases)
    trained = outputs_of(with_biases)
    merge_update(with_biases.backbone)
    assert relative_difference(outputs_of(with_biases), trained) < 1e-6
    unmerge_update(with_biases.backbone)
    for key, one in with_biases.named_parameters():
        assert torch.equal(one, before[key]) != one.requires_grad, key


@pytest.mark.parametrize("tied", [False, True])
def test_rows_of_added_tokens_train_and_come_back(tied: bool) -> None:
    def made(seed: int) -> Method:
        method = tiny_method("predgen", word_level_backbone("llama", tied), NUMBER, full=True)
        torch.manual_seed(seed)
        apply_peft(method.backbone, "rocoft", rank=2, writes=True)
        return method

    method = made(0)
    added = method.backbone.added_token_ids
    before = {side: matrix(method.backbone, side) for side in ("input", "output")}  # type: ignore[arg-type]
    train(method, steps=6)
    for side, old in before.items():
        moved = (matrix(method.backbone, side) != old).any(dim=1).nonzero().flatten().tolist()  # type: ignore[arg-type]
        assert moved == added, side
    again = made(7).eval()
    load_trainable_weights(again, trainable_weights(method))
    assert torch.equal(outputs_of(again), outputs_of(method))


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(BackboneError, match="linear layers for RoCoFT, found none"):
        apply_peft(tiny_backbone("llama", num_hidden_layers=0), "rocoft", rank=2, writes=True)


# ---- selection


def indices_of(method: Method) -> list[list[int]]:
    return [one.tolist() for one in chosen_indices(method).values()]


def test_random_selection_follows_the_seed_alone() -> None:
    first = indices_of(adapted("generator", "llama", selection="random", seed=1))
    assert indices_of(adapted("generator", "llama")) == [[0, 1]] * len(first)
    torch.manual_seed(5)
    backbone = tiny_backbone("llama")
    found = []
    for seed in (1, 1, 2):
        torch.rand(3)
        backbone = tiny_backbone("llama")
        apply_peft(backbone, "rocoft", rank=2, writes=True, selection="random", seed=seed)
        found.append([one.tolist() for one in chosen_indices(backbone).values()])
    assert found[0] == found[1] != found[2]
    assert all(len(set(one)) == 2 and one == sorted(one) for one in found[0])
    assert len({tuple(one) for one in found[0]}) > 1


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("shape", SHAPES)
def test_magnitudes_are_those_of_a_plain_count(shape: str, axis: str) -> None:
    method = adapted("predgen", shape, axis, selection="magnitude")
    assert all(one == [0, 1] for one in indices_of(method))
    prompts = prompts_of(method.backbone)
    seen: dict[Any, list[Tensor]] = {}
    # The plain layers, whose inputs are noted while the model reads the prompts alone.
    plain = {one.base_layer: one for one in updates_in(method.backbone)}
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, inputs: seen.setdefault(layer, []).append(inputs[0].flatten(0, -2))
        )
        for layer in plain
    ]
    with torch.no_grad():
        for prompt in prompts:
            method.backbone.read(*method.backbone.collate([prompt]))
    for handle in handles:
        handle.remove()
    method.train()
    choose_by_magnitude(method.backbone, prompts, writes=True)
    assert method.backbone.training
    assert len(seen) > 0
    for layer, update in plain.items():
        norms = torch.cat(seen[layer]).double().norm(dim=0)
        weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
        score = (weight.double().abs() * norms).sum(dim=1 if axis == "rows" else 0)
        assert set(update.rocoft_index.tolist()) == set(score.topk(2).indices.tolist())
    assert any(one != [0, 1] for one in indices_of(method))


@pytest.mark.parametrize("method", ["predictor", "predgen"])
def test_what_was_chosen_is_in_the_artifact_and_is_trained(tmp_path: Path, method: str) -> None:
    settings = {"inputs": ["review"], "batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu", "method": method}
    settings |= {"peft": "rocoft", "rocoft_selection": "magnitude", "rocoft_axis": "columns", "rocoft_rank": 2}
    base = save_family("t5", tmp_path / "base")
    model = predgen.fit(reviews(40), "stars", backbone=base, out=tmp_path / "model", **settings)
    saved = load_file(tmp_path / "model" / "weights.safetensors")
    indices = {name: one for name, one in saved.items() if name.endswith("rocoft_index")}
    deltas = {name for name in saved if name.endswith("rocoft_delta")}
    assert len(indices) == len(deltas) > 0
    assert any(one.tolist() != [0, 1] for one in indices.values())
    again = predgen.load(tmp_path / "model", device="cpu")
    assert {name: one.tolist() for name, one in chosen_indices(again.method).items()} == {
        name: one.tolist() for name, one in indices.items()
    }
    rows = reviews(15, seed=3)
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)
    # Merged, the same answers; the weights that are packed for a CPU are packed anew.
    merge_update(again.method.backbone)
    columns = ["prediction"]
    pd.testing.assert_frame_equal(model.predict(rows)[columns], again.predict(rows)[columns], atol=1e-4)


# ---- few bits


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_it_is_trained_over_few_bits(tmp_path: Path, bits: str) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra predgen[quantized] is not installed")
    from tests.helpers.shapes import byte_level_tokenizer, save_model, tiny_model
    from tests.integration.test_loading_options import WIDE

    tokenizer = byte_level_tokenizer()
    name = save_model(tmp_path / "base", tiny_model("llama", len(tokenizer), std=0.1, **WIDE), tokenizer)
    settings = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}
    settings |= {"peft": "rocoft", "rocoft_selection": "magnitude", "quantization": bits, "backbone": name}
    model = predgen.fit(reviews(40), "stars", out=tmp_path / "model", **settings)
    update = updates_in(model.method)[0]
    assert type(update.base_layer).__name__ == {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[bits]
    assert float(update.rocoft_delta.detach().abs().max()) > 0
    rows = reviews(15, seed=3)
    again = predgen.load(tmp_path / "model", device="cpu")
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)
    with pytest.raises(BackboneError, match="found a quantized model"):
        merge_update(again.method.backbone)
