"""The artifact: one directory with everything that is needed to predict again.

    predgen.json          what it is: target, template, base model and its hash, settings, training record
    weights.safetensors   the trained weights (PEFT update or all weights, and the heads)
    tokenizer/            the tokenizer, added tokens included
    config.yaml           the settings, as `--config` reads them

Only JSON, YAML and safetensors: loading runs no code from the directory. Writing is atomic: the directory appears
whole or not at all.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer

from predgen.backbones import Backbone, Source, find_source
from predgen.codec.codec import Codec
from predgen.config import RunConfig, write_config
from predgen.errors import ArtifactError, BackboneError, OutputExistsError, UnknownNameError
from predgen.files import folder_appears_whole, sha256_of
from predgen.measures.calibration import Calibration
from predgen.measures.choices import Mix
from predgen.methods import Answering, Method, PredGen, Scale
from predgen.methods.weights import load_trainable_weights, trainable_weights
from predgen.models.building import answering_of, build_method, load_base
from predgen.models.card import CARD_FILE, card_of
from predgen.models.contents import Contents
from predgen.models.description import (
    DESCRIPTION_FILE,
    FORMAT,
    BasePart,
    CalibrationPart,
    Description,
    damage_in,
    meaning_hash,
    read_description,
)
from predgen.names import PEFT_METHODS
from predgen.targets.kinds import target_to_json
from predgen.version import __version__

WEIGHTS_FILE = "weights.safetensors"
SETTINGS_FILE = "config.yaml"
TOKENIZER_FOLDER = "tokenizer"
LIBRARIES = ("torch", "transformers", "peft", "tokenizers")


def check_output(
    path: Path,
    *,
    overwrite: bool,
    option: str = "--out",
    file: str = DESCRIPTION_FILE,
    what: str = "a PredGen artifact",
) -> None:
    """Refuses an output directory that is there already.

    Args:
        path: the directory.
        overwrite: whether what is written there may be replaced.
        option: what named it.
        file: the file by which a directory is known that may be replaced.
        what: what people call such a directory.

    Raises:
        OutputExistsError: it exists and was not to be overwritten, or is something else.
    """
    if not path.exists():
        return
    if not overwrite:
        raise OutputExistsError(f"Expected a new directory, found '{path}'. Name another {option}, or use --overwrite.")
    if not (path / file).exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputExistsError(
            f"Expected {what} to overwrite, found something else at '{path}'. Name another {option}."
        )


def save_artifact(path: Path, method: Method, contents: Contents, *, overwrite: bool = False) -> None:
    """Writes an artifact.

    Raises:
        OutputExistsError: the path exists and was not to be overwritten.
    """
    check_output(path, overwrite=overwrite)
    description = {
        "format": FORMAT,
        "versions": {"predgen": __version__, **{name: version(name) for name in LIBRARIES}},
        "target": target_to_json(method.target),
        "template": {"text": contents.template.text, "fields": list(contents.template.fields)},
        "base": {
            "name": contents.base_name,
            "revision": contents.base_revision,
            "sha256": contents.base_hash,
            "added_tokens": method.backbone.tokenizer.convert_ids_to_tokens(method.backbone.added_token_ids),
            "frame": method.backbone.special_tokens,
        },
        # One entry for each field.
        "scales": [asdict(head.scale) for head in method.fields],
        "thresholds": [None if labels is None else labels.tolist() for labels in contents.answering.thresholds],
        "mixes": [asdict(mix) for mix in contents.answering.mixes] if isinstance(method, PredGen) else None,
        "config": contents.config.model_dump(mode="json"),
        "calibrations": {name: _calibration_json(learned) for name, learned in contents.calibrations.items()},
        "record": contents.record,
    }
    description["sha256"] = meaning_hash(description)
    with folder_appears_whole(path, replace=overwrite) as folder:
        save_file(trainable_weights(method), folder / WEIGHTS_FILE)
        save_tokenizer(method.backbone.tokenizer, folder / TOKENIZER_FOLDER)
        write_config(contents.config, folder / SETTINGS_FILE)
        # As the other files; safetensors lets only its owner read it.
        shutil.copymode(folder / SETTINGS_FILE, folder / WEIGHTS_FILE)
        description["files"] = {name: sha256_of(file) for name, file in files_of(folder).items()}
        (folder / CARD_FILE).write_text(card_of(contents, method.target), encoding="utf-8")
        text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Writes a tokenizer without the code that some bring along; its tokenizer.json is all that is needed."""
    tokenizer.save_pretrained(folder)
    for code in folder.glob("*.py"):
        code.unlink()
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    if settings.pop("auto_map", None) is not None:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_artifact(
    path: Path, *, backbone: str | None = None, device: str = "auto", trust_remote_code: bool = False
) -> tuple[Method, Contents]:
    """Returns the method of an artifact, on the CPU and in evaluation mode, and what else the artifact holds.

    Args:
        path: the artifact's directory.
        backbone: where its base model is now, if it has moved.
        device: where a base model goes that was fitted with a device map; `auto` follows that map.
        trust_remote_code: run code of its base model, if it was fitted so; an artifact alone cannot ask for that.

    Raises:
        ArtifactError: it is missing, damaged, of a newer format, or of another base model.
    """
    description = read_description(path)
    _check_files(path, description.files)
    base, config = description.base, description.settings
    source = _find_base(path, base, config, backbone, trust_remote_code)
    loaded = _load_backbone(path, base, config, source, device)
    with damage_in(path / WEIGHTS_FILE):
        weights = load_file(path / WEIGHTS_FILE)
    with damage_in(path / DESCRIPTION_FILE):
        _check_ranks(config, weights)
        scales = [Scale(**scale.model_dump()) for scale in description.scales]
        method = build_method(config, loaded, Codec(description.fields_of_target, loaded), scales)
        contents = Contents(
            config,
            description.template.template,
            _answering_of(description, answering_of(config, method)),
            source.name,
            source.revision,
            base.sha256,
            description.record,
            {name: _calibration_of(learned) for name, learned in description.calibrations.items()},
        )
    with damage_in(path / WEIGHTS_FILE):
        load_trainable_weights(method, weights)
    return method.eval(), contents


def files_of(path: Path) -> dict[str, Path]:
    """Returns the files of an artifact, other than its description, by their names in it."""
    files = [path / WEIGHTS_FILE, path / SETTINGS_FILE, *sorted((path / TOKENIZER_FOLDER).rglob("*"))]
    return {file.relative_to(path).as_posix(): file for file in files if os.path.lexists(file) and not file.is_dir()}


def _check_files(path: Path, hashes: dict[str, str] | None) -> None:
    """Refuses files that are not those that were saved, and what is no file and could be read without end.

    Args:
        path: the artifact's directory.
        hashes: the SHA-256 of each file by its name; None of an artifact that has none.

    Raises:
        ArtifactError: a file is missing, changed, added, or no regular file.
    """
    found = files_of(path)
    for name in {**found, **(hashes or {})}:
        with damage_in(path / name):
            if name not in found or not found[name].exists():
                raise FileNotFoundError("no such file")
            if not found[name].is_file():
                raise ValueError("it is no regular file")
            if hashes is not None and hashes.get(name) != sha256_of(found[name]):
                raise ValueError("its content is not what was saved" if name in hashes else "it was not saved there")


def _check_ranks(config: RunConfig, weights: dict[str, Tensor]) -> None:
    """Refuses ranks that no saved weight has, before memory is taken for them."""
    model = config.model
    setting = PEFT_METHODS[model.peft].rank_setting
    ranks = [getattr(model, setting), model.adalora_initial_rank or 0] if setting else []
    largest = max((side for values in weights.values() for side in values.shape), default=0)
    if max(ranks, default=0) > largest:
        raise ValueError(f"config.model.{setting}: at most {largest}, as the weights say (found {max(ranks)})")


def _load_backbone(path: Path, base: BasePart, config: RunConfig, source: Source, device: str) -> Backbone:
    """Returns an artifact's base model with the artifact's own tokenizer; the arguments are those of `load_artifact`.

    Args:
        path: the artifact's directory.
        base: what its description says of the base model.
        config: its settings.
        source: where the base model's files are.
        device: where it goes.
    """
    frame = base.frame
    changes: dict[str, Any] = {} if frame is None else {"chat_template": False}  # which it contains
    if device != "auto" and config.model.device_map is not None:
        changes["device_map"] = device if config.model.quantization is not None else None
    model = config.model.model_copy(update=changes)
    with damage_in(path / TOKENIZER_FOLDER):
        if not (path / TOKENIZER_FOLDER).is_dir():  # or its name would be taken as a hub id
            raise FileNotFoundError("no such folder")
        tokenizer = AutoTokenizer.from_pretrained(path / TOKENIZER_FOLDER, trust_remote_code=False)
    backbone = load_base(config.model_copy(update={"model": model}), source, tokenizer)
    with damage_in(path / TOKENIZER_FOLDER):
        for piece in base.added_tokens:
            backbone.add_token(piece)
    with damage_in(path / DESCRIPTION_FILE):
        if frame is not None and frame.largest >= backbone.num_prompt_tokens:
            raise ValueError(f"base.frame: tokens below {backbone.num_prompt_tokens} (found {frame.largest})")
        if frame is None:
            special_tokens = {**backbone.special_tokens, "plain": False}
        else:
            special_tokens = frame.model_dump(exclude={"start"} if frame.start is None else None)
        backbone.use_special_tokens(special_tokens)
    return backbone


def _answering_of(description: Description, answering: Answering) -> Answering:
    """Returns how a model's answers are chosen: as its settings say, with what was fitted after training."""
    thresholds = tuple(None if labels is None else torch.tensor(labels) for labels in description.thresholds)
    if description.mixes is None:
        return replace(answering, thresholds=thresholds)
    mixes = tuple(Mix(**mix.model_dump()) for mix in description.mixes)
    return replace(answering, thresholds=thresholds, mixes=mixes)


def _calibration_json(calibration: Calibration) -> dict[str, Any]:
    """Returns a calibration as JSON holds it; null is infinitely far off, or not sure at all."""
    learned = {"temperature": calibration.temperature, "uniform_fraction": calibration.uniform_fraction}
    lists = {name: getattr(calibration, name) for name in ("scores", "sureness", "errors")}
    return learned | {
        name: [value if math.isfinite(value) else None for value in values]
        for name, values in lists.items()
        if values or name == "scores"
    }


def _calibration_of(saved: CalibrationPart) -> Calibration:
    """Returns the calibration that `_calibration_json` described."""
    scores, errors = (
        tuple(math.inf if one is None else one for one in values) for values in (saved.scores, saved.errors)
    )
    sureness = tuple(-math.inf if one is None else one for one in saved.sureness)
    return Calibration(saved.temperature, scores, saved.uniform_fraction, sureness, errors)


def _find_base(path: Path, base: BasePart, config: RunConfig, backbone: str | None, trust_remote_code: bool) -> Source:
    """Returns where the base model's files are, refusing files other than those that the artifact was trained on.

    Args:
        path: the artifact's directory.
        base: what its description says of the base model.
        config: its settings.
        backbone: where the caller says that it is; if not given, where it was, or else beside the artifact or in it.
        trust_remote_code: whether code among its files may be run.
    """
    trusted = config.model.trust_remote_code
    if trusted and not trust_remote_code:
        raise ArtifactError(
            f"Expected leave to run the code of the base model '{base.name}', which '{path}' was fitted with, found "
            "none. Read that code, and if you trust it, use --trust-remote-code (trust_remote_code=True)."
        )
    name, revision = (base.name, base.revision) if backbone is None else (backbone, None)
    if backbone is None:
        name = next((str(place) for place in _moved_to(path, base)), name)
    try:
        source = find_source(name, revision, trust_remote_code=trusted)
    except (BackboneError, UnknownNameError, OSError) as error:
        raise ArtifactError(
            f"Expected the base model '{base.name}' that '{path}' was trained on, and it cannot be had: {error} If it "
            "has moved, --backbone PATH (backbone=…) says where it is."
        ) from error
    found_hash = source.content_hash()
    if found_hash != base.sha256:
        raise ArtifactError(
            f"Expected the base model '{base.name}' with the hash {base.sha256[:12]}… that '{path}' was trained on, "
            f"found {found_hash[:12]}… in '{name}'. Restore that version of the model, name its place with --backbone "
            "PATH (backbone=…), or fit again."
        )
    return source


def _moved_to(path: Path, base: BasePart) -> Iterator[Path]:
    """Yields what has a base model's name in an artifact and beside it, if its old path holds nothing any more."""
    absolute = PurePosixPath(base.name).is_absolute() or PureWindowsPath(base.name).is_absolute()
    if not absolute or Path(base.name).exists():
        return
    for folder in (path.resolve(), path.resolve().parent):
        place = folder / PureWindowsPath(base.name).name  # which splits at both kinds of slashes
        if place.exists() and place != path.resolve():
            yield place


def read_run(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Returns the settings and the training record of an artifact, without its model.

    Args:
        path: the artifact's directory.

    Raises:
        ArtifactError: it is missing, damaged, or of a newer format.
    """
    description = read_description(path)
    return description.settings, description.record
