"""The Writer's prior: shares of the training rows before the first step, saved with the model, zero without it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import predgen
from predgen import Number
from predgen.methods import Generator
from predgen.methods.prior import fill_prior
from predgen.writing.scoring import score_all
from tests.helpers.commands import refused
from tests.helpers.shapes import batch_for, byte_level_tokenizer, save_model, tiny_backbone, tiny_method, tiny_model
from tests.helpers.tables import reviews
from tests.integration.test_cross_attending import prompts_of

DIGITS = Number(0.0, 9.0, decimals=0)


def test_the_mean_probabilities_become_the_shares() -> None:
    values = [1.0, 1.0, 1.0, 7.0, 7.0, 1.0, 1.0, 7.0, 1.0, 1.0]
    method = tiny_method("generator", tiny_backbone("llama"), DIGITS)
    assert isinstance(method, Generator)
    prompts = (prompts_of(method.backbone) * 2)[: len(values)]
    method.codec.add_prior()
    batch = batch_for(method, prompts, values)
    before = method(batch)["loss"]
    memory = method.writer.symbols.read(batch.prompt, batch.prompt_mask)
    trie = method.writer.trie_of(0)
    assert trie is not None
    untrained = score_all(method.backbone, memory, trie).exp().mean(dim=0)
    fill_prior(method, batch.gold, [batch])
    found = score_all(method.backbone, memory, trie).exp().mean(dim=0)
    counts = Counter(values)
    for value, share, believed in zip(trie.values, found.tolist(), untrained.tolist(), strict=True):
        # One row more stands for what the model believes.
        assert share == pytest.approx((counts[value] + believed) / (len(values) + 1), abs=0.005)
    assert float(method(batch)["loss"].detach()) < float(before.detach())


@pytest.mark.parametrize("method", ["generator", "predgen"])
def test_it_is_trained_and_saved(tmp_path: Path, method: str) -> None:
    tokenizer = byte_level_tokenizer()
    base = save_model(tmp_path / "base", tiny_model("llama", len(tokenizer)), tokenizer)
    settings: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}
    model = predgen.fit(reviews(40), "stars", backbone=base, method=method, writer_prior=True, **settings)
    prior = model.method.codec.prior
    assert prior is not None
    assert float(prior.detach().abs().max()) > 0.1
    model.save(tmp_path / "model")
    again = predgen.load(tmp_path / "model", device="cpu")
    assert again.method.codec.prior is not None
    assert torch.equal(again.method.codec.prior, prior)
    rows = reviews(15, seed=3)
    pd.testing.assert_frame_equal(model.predict(rows, std=True), again.predict(rows, std=True), check_exact=True)


def test_records_have_none(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    reviews(30).to_csv(table, index=False)
    said = refused("fit", table, "--target", "mood,stars", "--out", tmp_path / "out", "--set", "writer_prior=true")
    assert "Expected one field" in said
