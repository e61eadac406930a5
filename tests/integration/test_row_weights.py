"""Rows with weights: a weight of 2 is a doubled row, 0 no row, in every loss of every method, and in whole runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import predgen
from predgen.methods import Batch, Method
from predgen.methods.losses import TokenLoss
from predgen.sklearn import PredGenClassifier
from tests.helpers.commands import refused, run
from tests.helpers.shapes import LABEL, NUMBER, VALUES, batch_for, tiny_backbone, tiny_method
from tests.helpers.tables import reviews
from tests.integration.test_cross_attending import prompts_of
from tests.integration.test_exact import KINDS, correction

FAST: dict[str, Any] = {"inputs": ["review"], "quiet": True, "device": "cpu", "backbone": "builtin:nano"}
METHODS: dict[str, Any] = {
    **{f"{name}, {kind}": (name, kind) for name in ("predictor", "generator", "predgen") for kind in VALUES},
    **{f"correction, {kind}": ("correction", kind) for kind in KINDS},
    "expected value": ("expected value", "number"),
}


def method_of(name: str, kind: str) -> tuple[Method, list[Any]]:
    if name == "correction":
        target, values = KINDS[kind]
        return correction(target), values
    if name == "expected value":
        return tiny_method("generator", tiny_backbone(), NUMBER, token_loss=TokenLoss("expected_value")), VALUES[
            "number"
        ]
    return tiny_method(name, tiny_backbone(), {"number": NUMBER, "label": LABEL}[kind]), VALUES[kind]


def learned(method: Method, batch: Batch) -> tuple[dict[str, float], list[Tensor]]:
    """Returns the losses and the gradients of a batch."""
    method.zero_grad()
    losses = method(batch)
    losses["loss"].backward()
    gradients = [one.grad.clone() for one in method.parameters() if one.grad is not None]
    return {name: float(loss.detach()) for name, loss in losses.items()}, gradients


@pytest.mark.parametrize("name", METHODS)
def test_a_weight_of_2_is_a_doubled_row_and_0_is_none(name: str) -> None:
    method, values = method_of(*METHODS[name])
    prompts = prompts_of(method.backbone)[: len(values)]
    weights = torch.tensor([2.0, 1, 0, 1, 0])[: len(values)]
    whole = replace(batch_for(method, prompts, values), weights=weights / weights.mean())
    rows = [row for row, weight in enumerate(weights.tolist()) for _ in range(int(weight))]
    copied = batch_for(method, [prompts[row] for row in rows], [values[row] for row in rows])
    losses, gradients = learned(method, whole)
    expected, wanted = learned(method, copied)
    assert losses == pytest.approx(expected, rel=1e-4)
    largest = max(float(one.abs().max()) for one in wanted)
    assert largest > 0
    for found, one in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-3, atol=1e-5 * largest)
    unweighted, _ = learned(method, batch_for(method, prompts, values))
    assert losses["loss"] != pytest.approx(unweighted["loss"], rel=1e-4)


def trained(table: Any, **settings: Any) -> dict[str, Tensor]:
    model = predgen.fit({"train": table, "validation": reviews(8, seed=9)}, "mood", **FAST, **settings)
    return {name: one.detach() for name, one in model.method.named_parameters() if one.requires_grad}


def test_a_run_with_weights_is_one_with_copied_rows_and_accumulated_batches_make_no_difference() -> None:
    table = reviews(6).assign(w=[2, 1, 0, 1, 0, 4])
    copies = table.loc[table.index.repeat(table["w"].astype(int))].reset_index(drop=True)
    settings = {
        "method": "predictor",
        "max_steps": 2,
        "weight_decay": 0.0,
        "max_grad_norm": 1e9,
        "warmup_fraction": 0.0,
    }
    whole = trained(table, weight="w", batch_size=6, **settings)
    copied = trained(copies, batch_size=8, **settings)
    parts = trained(table, weight="w", batch_size=2, accumulation=3, **settings)
    plain = trained(table, batch_size=6, **settings)
    for name, one in whole.items():
        if "lora_B" in name:  # they begin at zero: what they are was learned
            assert float((one - copied[name]).norm() / one.norm()) < 1e-3
            assert float((one - parts[name]).norm() / one.norm()) < 1e-3
            assert float((one - plain[name]).norm() / one.norm()) > 1e-2


def test_a_resumed_run_with_other_weights_is_another_run() -> None:
    table = reviews(20).assign(w=[1, 2] * 10)
    seen = [
        predgen.fit(table.assign(w=column), "mood", weight="w", method="predictor", max_steps=1, **FAST).record
        for column in ([1, 2] * 10, [2, 1] * 10, [3, 6] * 10)
    ]
    assert seen[0]["rows_sha256"] == seen[2]["rows_sha256"] != seen[1]["rows_sha256"]


@pytest.mark.slow
def test_balanced_labels_move_the_answers_towards_the_rare_one() -> None:
    every = reviews(120)
    parts = [every[every["mood"] == "good"].head(54), every[every["mood"] == "bad"].head(6)]
    table = pd.concat(parts).sample(frac=1, random_state=0).reset_index(drop=True)
    asked = reviews(60, seed=5)
    shares = {
        rule: predgen.fit(
            {"train": table, "validation": asked}, "mood", method="predictor", max_steps=12, class_weights=rule, **FAST
        )
        .predict(asked, probabilities=True)["probability_bad"]
        .mean()
        for rule in ("none", "balanced")
    }
    assert shares["balanced"] > 1.2 * shares["none"]


def test_the_command_and_the_estimator_take_weights(tmp_path: Path) -> None:
    table = reviews(40).assign(w=[1, 3] * 20)
    table.to_csv(tmp_path / "rows.csv", index=False)
    common = ["fit", tmp_path / "rows.csv", "--target", "mood", "--inputs", "review", "--backbone", "builtin:nano"]
    common += ["--method", "predictor", "--set", "max_steps=2", "--device", "cpu", "--out", tmp_path / "out"]
    assert run(*common, "--weight", "w", "--class-weights", "{good: 2, bad: 1}").code == 0
    config = predgen.load(tmp_path / "out").config.data
    assert (config.weight, config.class_weights) == ("w", {"good": 2.0, "bad": 1.0})
    said = refused(*common, "--overwrite", "--class-weights", "fair")
    assert "expected balanced or none, or a number of at least 0 for each label" in said
    for row in (1, 20, 40):  # of any part
        wrong = table.copy()
        wrong.loc[row - 1, "w"] = -3
        wrong.to_csv(tmp_path / "rows.csv", index=False)
        assert f"row {row}, column 'w', found '-3'" in refused(*common, "--overwrite", "--weight", "w")

    texts, moods = table["review"].tolist(), table["mood"].tolist()
    moods_of = PredGenClassifier(method="predictor", backbone="builtin:nano", max_steps=2, device="cpu")
    plain = moods_of.fit(texts, moods).predict_proba(texts)
    equal = moods_of.fit(texts, moods, sample_weight=np.full(40, 2.0)).predict_proba(texts)
    np.testing.assert_array_equal(plain, equal)
    weighed = moods_of.fit(texts, moods, sample_weight=np.where(np.array(moods) == "good", 9.0, 1)).predict_proba(texts)
    assert weighed[:, 1].mean() > plain[:, 1].mean()
    assert moods_of.model_.inputs == ("text",)
