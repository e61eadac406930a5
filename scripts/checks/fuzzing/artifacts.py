"""Artifacts of fitted models with edits: in their description, their tokenizer, their weights, their list of files."""

import functools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import yaml

from predgen import load
from predgen.models.artifact import DESCRIPTION_FILE, SETTINGS_FILE, TOKENIZER_FOLDER, WEIGHTS_FILE
from predgen.models.asked import Asked
from predgen.models.model import Model
from scripts.checks.fuzzing.edits import Edit, byte_edits, edited, edited_bytes, edits
from scripts.checks.fuzzing.law import ANSWERED, check_answers, hold
from scripts.checks.fuzzing.world import MODELS, rows, world

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
PLACES = (
    *("description",) * 10,
    *("part",) * 4,
    *("settings",) * 2,
    *("tokenizer", "weights", "bytes", "gone", "more", "folder", "none"),
)
PARTS = ("target", "template", "base", "scales", "thresholds", "mixes", "config", "calibrations", "record", "versions")
NUM_ROWS = 3


@dataclass(frozen=True)
class Edited:
    """A fitted model, and what was done to its folder.

    Attributes:
        of: the model.
        place: what is edited.
        part: which part of the description, or which file.
        changes: edits of JSON.
        bytes: edits of bytes.
        sealed: whether the hashes stay that were saved; else they are left out, as artifacts of 0.6.0 have none.
    """

    of: str
    place: str
    part: int
    changes: tuple[Edit, ...]
    bytes: tuple[tuple[float, int, bytes], ...]
    sealed: bool


def drawn_edits() -> st.SearchStrategy[Edited]:
    """Draws what is done to a fitted model."""
    return st.builds(
        Edited,
        st.sampled_from(list(MODELS)),
        st.sampled_from(PLACES),
        st.integers(0, 20),
        edits(2),
        byte_edits(),
        st.booleans(),
    )


def artifacts() -> tuple[st.SearchStrategy[Edited], Callable[[Edited], str]]:
    """Returns what draws edits of artifacts, and what tries them."""
    return drawn_edits(), tried


@functools.cache
def original(name: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Returns a fitted model's description, and its answers."""
    description = json.loads((world().artifact(name) / DESCRIPTION_FILE).read_text(encoding="utf-8"))
    return description, answers_of(world().model(name))


def asked_of(model: Model) -> Asked:
    """Returns all that a model can be asked for."""
    fields = model.target.fields.values()
    numeric = any(field.numeric for field in fields)
    level = 0.5 if model.contents.calibrations else None
    return Asked(
        probabilities=any(field.labels for field in fields), std=numeric and model.method.writes, interval=level
    )


def answers_of(model: Model) -> pd.DataFrame:
    """Returns a model's answers for a few rows, with all that it can be asked for."""
    asked = asked_of(model)
    frame = rows(NUM_ROWS, seed=9)
    answers = model.predict(frame, probabilities=asked.probabilities, std=asked.std, interval=asked.interval)
    check_answers(model, frame, answers, asked)
    return answers


def tried(edit: Edited) -> str:
    """Edits a copy of an artifact and loads it: with its hashes it answers as the original did, without them rightly.

    Raises:
        PredGenError: it was refused.
        BrokenError: it answers otherwise.
    """
    description, wanted = original(edit.of)
    folder = world().scratch / "artifact"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world().artifact(edit.of), folder, copy_function=os.link)
    description = _edited_description(edit, description)
    if not edit.sealed and isinstance(description, dict):
        description = {name: value for name, value in description.items() if name not in ("files", "sha256")}
    _replace(folder / DESCRIPTION_FILE, json.dumps(description, ensure_ascii=False).encode(errors="replace"))
    _edit_files(edit, folder)
    found = answers_of(load(folder, device="cpu"))
    if edit.sealed:
        hold(found.equals(wanted), f"an edited artifact answers otherwise: {edit.place}")
    return ANSWERED


def _edited_description(edit: Edited, description: dict[str, Any]) -> Any:
    if edit.place == "description":
        return edited(description, edit.changes)
    if edit.place == "part":
        part = PARTS[edit.part % len(PARTS)]
        return {**description, part: edited({"": description[part]}, edit.changes).get("")}
    return description


def _edit_files(edit: Edited, folder: Path) -> None:
    """Edits the other files of an artifact."""
    files = [WEIGHTS_FILE, SETTINGS_FILE, DESCRIPTION_FILE, *(f"{TOKENIZER_FOLDER}/{name}" for name in TOKENIZER_FILES)]
    file = folder / files[edit.part % len(files)]
    if edit.place == "tokenizer":
        file = folder / TOKENIZER_FOLDER / TOKENIZER_FILES[edit.part % len(TOKENIZER_FILES)]
        tree = edited(json.loads(file.read_text(encoding="utf-8")), edit.changes)
        _replace(file, json.dumps(tree).encode(errors="replace"))
    elif edit.place == "settings":
        tree = edited(yaml.safe_load((folder / SETTINGS_FILE).read_text(encoding="utf-8")), edit.changes)
        _replace(folder / SETTINGS_FILE, yaml.safe_dump(tree).encode(errors="replace"))
    elif edit.place in ("weights", "bytes"):
        file = folder / WEIGHTS_FILE if edit.place == "weights" else file
        _replace(file, edited_bytes(file.read_bytes(), edit.bytes))
    elif edit.place == "gone":
        file.unlink()
    elif edit.place == "more":
        (folder / ("more.json" if edit.part % 2 else f"{TOKENIZER_FOLDER}/added_tokens.json")).write_text("{}")
    elif edit.place == "folder":
        file.unlink()
        file.mkdir()


def _replace(file: Path, content: bytes) -> None:
    """Writes a new file: the one that is there is the original's own."""
    file.unlink()
    file.write_bytes(content)
