"""The study of free tokens before the target: what the rows hold, and what is tested."""

from typing import Any

import pandas as pd
from scripts.studies import thoughts

from predgen.backbones import load_backbone
from predgen.backbones.sources import find_source

TEXTS = ["A dull film.", "The river and the sea are far away from the city, said the old man."]


def test_own_text_is_what_the_model_writes_whatever_the_batch() -> None:
    backbone = load_backbone(find_source("builtin:nano"))
    together = thoughts.own_text(backbone, TEXTS, 6)
    assert together == [thoughts.own_text(backbone, [text], 6)[0] for text in TEXTS]
    assert all(len(backbone.tokenizer(text)["input_ids"]) >= 1 for text in together)


def test_each_kind_has_its_column() -> None:
    parts = {"train": pd.DataFrame({"sentence": TEXTS}), "test": pd.DataFrame({"sentence": TEXTS[:1]})}
    assert thoughts.with_thoughts(parts, ["sentence"], "none", 3, None) is parts
    filled = thoughts.with_thoughts(parts, ["sentence"], "filler", 3, None)
    assert filled["train"]["thoughts"].tolist() == [". . .", ". . ."]
    backbone = load_backbone(find_source("builtin:nano"))
    own = thoughts.with_thoughts(parts, ["sentence"], "own", 3, backbone)
    assert own["train"]["thoughts"][0] == own["test"]["thoughts"][0]
    assert all(own["train"]["thoughts"])


def test_a_kind_is_tested_against_none_on_the_rows_means_over_seeds() -> None:
    def cell(kind: str, seed: int, loss: float) -> dict[str, Any]:
        names = {"task": "stsb", "method": "predgen", "kind": kind, "seed": seed}
        return {**names, "test": {"mse": loss}, "losses": [loss] * 20, "train_seconds": 3.0}

    cells = [
        cell("none", 0, 1.0),
        cell("none", 1, 2.0),
        cell("own", 0, 3.0),
        cell("own", 1, 4.0),
        cell("filler", 0, 9.0),
    ]
    text = thoughts.tables(cells, 2)
    assert "| stsb | predgen | none | 1.5000 ± 0.7071 | 3 |" in text
    assert "| stsb | predgen | own | +2.0000 | 0.0001 |" in text
    assert "filler" not in text
