"""The files of an artifact are those that were saved, and regular ones; without hashes it is read all the same."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import predgen
from predgen.files import sha256_of
from tests.helpers.commands import refused
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 1, "quiet": True, "device": "cpu"}


@pytest.fixture(scope="module")
def model() -> predgen.Model:
    return predgen.fit(reviews(40), "mood", **SMALL)


@pytest.fixture
def folder(model: predgen.Model, tmp_path: Path) -> Path:
    model.save(tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the description of an artifact."""
    description = json.loads((folder / "predgen.json").read_text())
    change(description)
    (folder / "predgen.json").write_text(json.dumps(description))


def as_of_0_6_0(folder: Path) -> None:
    """Takes out the hashes, which artifacts of 0.6.0 do not have."""
    edit(folder, lambda description: [description.pop("files"), description.pop("sha256")])


def tokenizer_of(folder: Path) -> tuple[Path, dict[str, Any]]:
    file = folder / "tokenizer" / "tokenizer.json"
    return file, json.loads(file.read_text(encoding="utf-8"))


def rotated_ids(folder: Path) -> None:
    file, tokenizer = tokenizer_of(folder)
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = dict(zip(vocabulary, [*list(vocabulary.values())[1:], 0], strict=True))
    file.write_text(json.dumps(tokenizer), encoding="utf-8")


def lower_case(folder: Path) -> None:
    file, tokenizer = tokenizer_of(folder)
    file.write_text(json.dumps({**tokenizer, "normalizer": {"type": "Lowercase"}}), encoding="utf-8")


def one_bit(folder: Path) -> None:
    file = folder / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def a_file_more(folder: Path) -> None:
    (folder / "tokenizer" / "added_tokens.json").write_text("{}")


def other_settings(folder: Path) -> None:
    (folder / "config.yaml").write_text("train: {seed: 7}\n")


def whole_weights(folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    save_file(
        {name: values.round().to(torch.int32) for name, values in weights.items()}, folder / "weights.safetensors"
    )


def swapped_labels(folder: Path) -> None:
    edit(folder, lambda description: description["target"]["values"].reverse())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (rotated_ids, r"tokenizer\.json' \(ValueError: its content is not what was saved"),
        (lower_case, r"tokenizer\.json' \(ValueError: its content is not what was saved"),
        (one_bit, r"weights\.safetensors' \(ValueError: its content is not what was saved"),
        (whole_weights, r"weights\.safetensors' \(ValueError: its content is not what was saved"),
        (a_file_more, r"added_tokens\.json' \(ValueError: it was not saved there"),
        (other_settings, r"config\.yaml' \(ValueError: its content is not what was saved"),
        (lambda folder: (folder / "config.yaml").unlink(), r"config\.yaml' \(FileNotFoundError: no such file"),
        (swapped_labels, r"predgen\.json' \(ValueError: one of target, .* is not what was saved"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_files_that_were_changed_are_refused(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(predgen.ArtifactError, match=message):
        predgen.load(folder)


def test_each_file_has_its_hash_and_a_model_without_hashes_answers_alike(model: predgen.Model, folder: Path) -> None:
    hashes = json.loads((folder / "predgen.json").read_text())["files"]
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    # People may write into the card.
    unhashed = ("predgen.json", "README.md")
    assert hashes == {name: sha256_of(path) for name, path in files.items() if name not in unhashed}
    rows = reviews(10, seed=4)
    expected = model.predict(rows, probabilities=True)
    assert predgen.load(folder).predict(rows, probabilities=True).equals(expected)
    as_of_0_6_0(folder)
    (folder / "config.yaml").unlink()
    assert predgen.load(folder).predict(rows, probabilities=True).equals(expected)


def test_without_hashes_the_types_of_weights_are_checked(folder: Path) -> None:
    as_of_0_6_0(folder)
    whole_weights(folder)
    with pytest.raises(predgen.ArtifactError, match=r"holds torch\.int32, not torch\.float32"):
        predgen.load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize(
    "name", ["weights.safetensors", "tokenizer/tokenizer.json", "config.yaml", "tokenizer/more.json"]
)
def test_a_pipe_in_the_place_of_a_file_is_refused(folder: Path, name: str, hashed: bool) -> None:
    """Whoever opens it waits for somebody that writes: the test would not end."""
    if not hashed:
        as_of_0_6_0(folder)
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(predgen.ArtifactError, match="it is no regular file"):
        predgen.load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_as_the_description_is_none(folder: Path) -> None:
    (folder / "predgen.json").unlink()
    os.mkfifo(folder / "predgen.json")
    assert "found none at" in refused("predict", folder, "--text", "x")


def test_tokens_that_the_model_does_not_have_are_refused(folder: Path) -> None:
    as_of_0_6_0(folder)
    edit(folder, lambda description: description["base"]["frame"]["prefix"].append(999_999))
    with pytest.raises(predgen.ArtifactError, match=r"base\.frame: tokens below \d+ \(found 999999\)"):
        predgen.load(folder)


def test_a_rank_that_the_weights_do_not_have_takes_no_memory(folder: Path) -> None:
    as_of_0_6_0(folder)
    edit(folder, lambda description: description["config"]["model"].update(lora_rank=60_000))
    with pytest.raises(predgen.ArtifactError, match=r"config\.model\.lora_rank: at most \d+, as the weights say"):
        predgen.load(folder)


def test_a_name_too_long_for_a_file_is_a_base_that_cannot_be_had(folder: Path) -> None:
    as_of_0_6_0(folder)
    edit(folder, lambda description: description["base"].update(name="./" + "x" * 3000))
    with pytest.raises(predgen.ArtifactError, match="it cannot be had"):
        predgen.load(folder)


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(1))]


def test_random_states_belong_to_the_caller(folder: Path) -> None:
    """After a load and after a fit the caller draws what it would have drawn without them."""
    load, fit = predgen.load, predgen.fit  # imported now: some libraries draw when they are imported
    for work in (lambda: load(folder), lambda: fit(reviews(40), "mood", **SMALL)):
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        expected = draws()
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        work()
        assert draws() == expected


def test_a_failed_load_keeps_the_random_states_too(folder: Path) -> None:
    as_of_0_6_0(folder)
    one_nan = load_file(folder / "weights.safetensors")
    one_nan[min(one_nan)][0] = float("nan")
    save_file(one_nan, folder / "weights.safetensors")
    before = torch.get_rng_state()
    with pytest.raises(predgen.ArtifactError, match="no finite number"):
        predgen.load(folder)
    assert torch.equal(torch.get_rng_state(), before)
