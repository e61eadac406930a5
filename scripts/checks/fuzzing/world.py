"""What the inputs are tried on, made once for each process: a tiny backbone, fitted models, a table."""

import functools
import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from tests.helpers.shapes import byte_level_tokenizer, save_model, tiny_model
from tests.helpers.tables import reviews

from predgen import Model, fit, load
from predgen.backbones import Backbone
from predgen.config import build_config
from predgen.measures.statistics import bootstrap_interval
from predgen.models import evaluating, scored
from predgen.models.building import load_base
from predgen.training.training_run import source_of

# Target and method of each fitted model.
MODELS: dict[str, dict[str, Any]] = {
    "label": {"target": "mood", "method": "predgen", "calibration": 0.3},
    "number": {"target": "stars", "method": "generator", "calibration": 0.3},
    "set": {"target": "tags", "method": "predictor"},
    "record": {"target": ["mood", "stars"], "method": "predgen"},
}
SMALL = {"inputs": ["review"], "max_steps": 1, "batch_size": 8, "max_eval_rows": 4, "device": "cpu"}


def rows(num_rows: int, seed: int = 0) -> pd.DataFrame:
    """Returns reviews with a label, a number and a set of labels."""
    table = reviews(num_rows, seed)
    table["tags"] = [
        json_list(["long"] * (len(text) > 60) + [mood])
        for text, mood in zip(table["review"], table["mood"], strict=True)
    ]
    return table


def json_list(labels: list[str]) -> str:
    """Returns labels as a cell of a file holds a list."""
    return "[" + ", ".join(f'"{label}"' for label in labels) + "]"


class World:
    """The models and files that inputs meet; nothing that an input does may change them.

    Attributes:
        folder: what is made once.
        scratch: what an input may write in.
    """

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="predgen-fuzz-")
        self.folder = Path(self._temporary.name) / "world"
        self.scratch = Path(self._temporary.name) / "scratch"
        self.folder.mkdir()
        os.environ["PREDGEN_CACHE"] = str(self.folder / "cache")  # nobody else's is read, or cleared
        self.scratch.mkdir()
        tokenizer = byte_level_tokenizer()
        self.backbone_name = save_model(
            self.folder / "llama", tiny_model("llama", len(tokenizer), max_position_embeddings=512), tokenizer
        )
        self.table = self.folder / "reviews.csv"
        rows(24).to_csv(self.table, index=False)
        # The intervals of 1,000 resamples take longer than all else.
        for module in (evaluating, scored):
            module.bootstrap_interval = functools.partial(bootstrap_interval, resamples=20)
        gc.collect()
        gc.freeze()  # each training run ends with a collection, over all that the libraries made

    @functools.cached_property
    def backbone(self) -> Backbone:
        """The tiny backbone as it is, for automata."""
        config = build_config({"data.data": "", "data.target": "", "model.backbone": self.backbone_name})
        return load_base(config, source_of(config))

    @functools.cache  # noqa: B019 - there is one world in a process
    def model(self, name: str) -> Model:
        """Returns a fitted model."""
        return load(self.artifact(name), device="cpu")

    @functools.cache  # noqa: B019 - there is one world in a process
    def artifact(self, name: str) -> Path:
        """Returns a fitted model's folder."""
        folder = self.folder / "models" / name
        fit(rows(60), **MODELS[name], **SMALL, backbone=self.backbone_name, out=folder, quiet=True)
        return folder


@functools.cache
def world() -> World:
    """Returns the world of this process."""
    return World()
