"""AdaLoRA: ranks move and come back, the penalty is in the loss once, a resumed run is the same run."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraModel
from safetensors.torch import load_file

import predgen
from predgen.adapters import apply_peft
from predgen.adapters.adalora import (
    allocate_ranks,
    allocation_state,
    orthogonality_penalty,
    plan_ranks,
    ranks_of,
    restore_allocation,
    tuner_of,
)
from predgen.backbones import Backbone
from predgen.methods import Method
from predgen.training.trainer import PredGenTrainer
from tests.helpers.shapes import NUMBER, VALUES, batch_for, tiny_backbone, tiny_method
from tests.helpers.tables import reviews
from tests.integration.test_cross_attending import new_backbone, prompts_of, save_family
from tests.integration.test_training import _stop_after

SMALL: dict[str, Any] = {
    "inputs": ["review"],
    "batch_size": 8,
    "quiet": True,
    "device": "cpu",
    "peft": "adalora",
    "lora_rank": 2,
    "learning_rate": 1e-2,
}


def adapted(name: str, backbone: Backbone, **settings: Any) -> tuple[Method, AdaLoraModel]:
    method = tiny_method(name, backbone, NUMBER)
    torch.manual_seed(0)
    apply_peft(backbone, "adalora", rank=2, initial_rank=4, writes=name != "predictor", **settings)
    tuner = tuner_of(backbone.model)
    assert tuner is not None
    return method, tuner


def train(method: Method, tuner: AdaLoraModel, steps: range) -> list[int]:
    """Takes some steps and returns the rank of all updates together after each."""
    optimizer = torch.optim.AdamW([one for one in method.parameters() if one.requires_grad], lr=1e-2)
    found = []
    for step in steps:
        method(batch_for(method, prompts_of(method.backbone), VALUES["number"]))["loss"].backward()
        optimizer.step()
        allocate_ranks(tuner, step)
        optimizer.zero_grad()
        found.append(sum(ranks_of(tuner).values()))
    return found


@pytest.mark.parametrize("name", ["predictor", "predgen"])
@pytest.mark.parametrize("shape", ["gpt2", "t5"])
def test_ranks_fall_to_the_target_and_differ_between_layers(shape: str, name: str) -> None:
    backbone = tiny_backbone("gpt2") if shape == "gpt2" else new_backbone(shape)
    method, tuner = adapted(name, backbone)
    plan_ranks(tuner, 20)
    layers = len(ranks_of(tuner))
    before = {key: one.detach().clone() for key, one in method.named_parameters() if one.requires_grad}
    totals = train(method, tuner, range(1, 21))
    assert totals[:2] == [4 * layers] * 2  # the steps before ranks are taken away
    assert all(one >= other for one, other in pairwise(totals))
    assert totals[13:] == [2 * layers] * 7  # the steps after the last is
    assert len(set(ranks_of(tuner).values())) > 1
    for key, old in before.items():
        no_rank = ".lora_E." in key and not bool(method.get_parameter(key).any())
        assert no_rank or not torch.equal(method.get_parameter(key), old), key
    if name == "predictor":  # no rank is spent on what a predictor never runs
        assert not any(key.startswith("decoder.") for key in ranks_of(tuner))


def test_the_state_comes_back_to_the_bit() -> None:
    first, tuner = adapted("generator", tiny_backbone("llama"))
    plan_ranks(tuner, 20)
    train(first, tuner, range(1, 9))
    state, weights = allocation_state(tuner), {key: one.detach().clone() for key, one in first.named_parameters()}
    second, other = adapted("generator", tiny_backbone("llama"))
    plan_ranks(other, 20)
    restore_allocation(other, state)
    second.load_state_dict(weights, strict=False)
    again = allocation_state(other)
    assert again.keys() == state.keys()
    assert {key.partition("/")[0] for key in state} == {"exp_avg_ipt", "exp_avg_unc", "rank_pattern"}
    assert all(torch.equal(again[key], one) for key, one in state.items())
    # Both go on alike, over the last allocation, from optimizers that are new.
    assert train(first, tuner, range(9, 18)) == train(second, other, range(9, 18))
    assert ranks_of(tuner) == ranks_of(other)


def test_the_penalty_is_the_mean_distance_from_orthogonal() -> None:
    _, tuner = adapted("generator", tiny_backbone("llama"), orthogonality=0.25)
    parts = {key: one for key, one in tuner.model.named_parameters() if ".lora_A." in key or ".lora_B." in key}
    assert len(parts) == 2 * len(ranks_of(tuner))
    expected = 0.0
    for key, one in parts.items():
        rows = (one if ".lora_A." in key else one.T).detach()
        distance = sum(
            (float(rows[i] @ rows[j]) - float(i == j)) ** 2 for i in range(len(rows)) for j in range(len(rows))
        )
        expected += distance**0.5 / len(parts)
    assert float(orthogonality_penalty(tuner).detach()) == pytest.approx(0.25 * expected, rel=1e-5)
    with torch.no_grad():
        for one in parts.values():
            torch.nn.init.orthogonal_(one)
    assert float(orthogonality_penalty(tuner).detach()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.slow
def test_the_penalty_is_in_a_step_once_whatever_the_accumulation(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    gradients: list[dict[str, torch.Tensor]] = []
    penalties: list[float] = []
    original, clip = PredGenTrainer.compute_loss, PredGenTrainer._clip_grad_norm

    def compute(self: Any, *arguments: Any, **settings: Any) -> Any:
        loss = original(self, *arguments, **settings)
        losses.append(float(loss.detach()))
        return loss

    def clipped(self: Any, model: Any) -> Any:
        if not self.state.global_step:
            penalties.append(float(orthogonality_penalty(tuner_of(model.backbone.model)).detach()))  # type: ignore[arg-type]
            parts = {key: one.grad for key, one in model.named_parameters() if ".lora_A." in key}
            gradients.append({key: one.clone() for key, one in parts.items()})
        return clip(self, model)

    monkeypatch.setattr(PredGenTrainer, "compute_loss", compute)
    monkeypatch.setattr(PredGenTrainer, "_clip_grad_norm", clipped)
    totals = []
    for batch, accumulation in ((8, 1), (3, 3)):
        for weight in (0.0, 0.5):
            losses.clear()
            settings = {**SMALL, "batch_size": batch, "accumulation": accumulation, "max_steps": 3}
            predgen.fit(reviews(40), "stars", adalora_orthogonality=weight, **settings)
            totals.append(sum(losses[:accumulation]))
    assert penalties[0] == penalties[2] == 0.0
    assert penalties[1] > 0.5
    assert totals[1] - totals[0] == pytest.approx(penalties[1], rel=1e-5)
    assert totals[3] - totals[2] == pytest.approx(penalties[3], rel=1e-5)
    # At the start singular values are zero, so that A has no gradient but the penalty's.
    assert not any(bool(one.any()) for one in [*gradients[0].values(), *gradients[2].values()])
    for key, one in gradients[1].items():
        assert bool(one.any())
        torch.testing.assert_close(gradients[3][key], one, rtol=1e-4, atol=1e-7)


def test_the_trainer_plans_for_its_steps_and_the_record_has_the_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    original = AdaLoraModel.update_and_allocate

    def note(self: Any, global_step: int) -> None:
        assert any(one.grad is not None and bool(one.grad.any()) for one in self.model.parameters())
        steps.append(global_step)
        original(self, global_step)

    monkeypatch.setattr(AdaLoraModel, "update_and_allocate", note)
    model = predgen.fit(reviews(40), "stars", max_steps=10, out=tmp_path / "model", metric="mse", **SMALL)
    tuner: Any = tuner_of(model.method.backbone.model)
    config = tuner.peft_config["default"]
    assert steps == list(range(1, 11))
    assert (config.total_step, config.tinit, config.tfinal) == (10, 1, 3)
    assert (config.init_r, config.target_r) == (3, 2)
    assert model.record["ranks"] == ranks_of(tuner)
    assert "orthogonality" in model.record["history"][0]
    again = predgen.load(tmp_path / "model", device="cpu")
    assert ranks_of(tuner_of(again.method.backbone.model)) == model.record["ranks"]  # type: ignore[arg-type]
    weights = dict(model.method.named_parameters())
    assert all(torch.equal(one, weights[key]) for key, one in again.method.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [4, 10, 15], ids=["while ranks fall", "at the last cut", "after the last cut"])
def test_a_resumed_run_ends_where_the_whole_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    base = save_family("t5", tmp_path / "base")
    table = reviews(90)  # 72 training rows: 9 batches an epoch
    settings = {**SMALL, "backbone": base, "method": "generator", "epochs": 2, "evals_per_epoch": 3, "patience": 9}
    predgen.fit(table, "stars", out=tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        _stop_after(patch, stop_at)
        with pytest.raises(KeyboardInterrupt):
            predgen.fit(table, "stars", out=tmp_path / "parts", **settings)
    assert list((tmp_path / "parts.unfinished" / "checkpoints").glob("checkpoint-*/ranks.safetensors"))
    parts = predgen.fit(table, "stars", out=tmp_path / "parts", resume=True, **settings)
    whole = predgen.load(tmp_path / "whole", device="cpu")
    assert parts.record["resumed"]
    losses = [[one["loss"] for one in one.record["history"] if "loss" in one] for one in (whole, parts)]
    assert losses[0] == losses[1]
    assert parts.record["ranks"] == whole.record["ranks"]
    saved = [load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts")]
    assert saved[0].keys() == saved[1].keys()
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0])


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(predgen.ConfigError, match=r"at least 3 optimizer steps to allocate ranks .*found 2"):
        predgen.fit(reviews(40), "stars", max_steps=2, **SMALL)
    with pytest.raises(predgen.ConfigError, match=r"adalora_initial_rank above lora_rank 2, .*found 2"):
        predgen.fit(reviews(40), "stars", max_steps=5, adalora_initial_rank=2, **SMALL)
