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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from predgen.backbones import Backbone, Source, find_source
from predgen.backbones.template import Template
from predgen.codec.codec import Codec
from predgen.config import RunConfig, build_config, write_config
from predgen.errors import ArtifactError, BackboneError, OutputExistsError, UnknownNameError
from predgen.files import folder_appears_whole
from predgen.measures.calibration import Calibration
from predgen.measures.choices import MIXES, Mix
from predgen.methods import Answering, Method, PredGen, Scale
from predgen.methods.weights import load_trainable_weights, trainable_weights
from predgen.models.building import answering_of, build_method, load_base
from predgen.models.contents import Contents
from predgen.targets.field import ALONE
from predgen.targets.kinds import target_from_json, target_to_json
from predgen.version import __version__

# 2: targets of several fields.
FORMAT = 2
DESCRIPTION_FILE = "predgen.json"
WEIGHTS_FILE = "weights.safetensors"
TOKENIZER_FOLDER = "tokenizer"
LIBRARIES = ("torch", "transformers", "peft", "tokenizers")


def check_output(path: Path, *, overwrite: bool, option: str = "--out") -> None:
    """Refuses an output directory that is there already.

    Args:
        path: the directory.
        overwrite: whether an artifact there may be replaced.
        option: what named it.

    Raises:
        OutputExistsError: it exists and was not to be overwritten, or is no artifact.
    """
    if not path.exists():
        return
    if not overwrite:
        raise OutputExistsError(f"Expected a new directory, found '{path}'. Name another {option}, or use --overwrite.")
    if not (path / DESCRIPTION_FILE).exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputExistsError(
            f"Expected a PredGen artifact to overwrite, found something else at '{path}'. Name another {option}."
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
    with folder_appears_whole(path) as folder:
        save_file(trainable_weights(method), folder / WEIGHTS_FILE)
        (folder / WEIGHTS_FILE).chmod(0o644)  # as the other files; safetensors lets only its owner read it
        _save_tokenizer(method.backbone.tokenizer, folder / TOKENIZER_FOLDER)
        write_config(contents.config, folder / "config.yaml")
        text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Writes a tokenizer without the code that some bring along; its tokenizer.json is all that is needed."""
    tokenizer.save_pretrained(folder)
    for code in folder.glob("*.py"):
        code.unlink()
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    if settings.pop("auto_map", None) is not None:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_artifact(path: Path, *, device: str = "auto", trust_remote_code: bool = False) -> tuple[Method, Contents]:
    """Returns the method of an artifact, on the CPU and in evaluation mode, and what else the artifact holds.

    Args:
        path: the artifact's directory.
        device: where a base model goes that was fitted with a device map; `auto` follows that map.
        trust_remote_code: run code of its base model, if it was fitted so; an artifact alone cannot ask for that.

    Raises:
        ArtifactError: it is missing, damaged, of a newer format, or of another base model.
    """
    description = _read_description(path)
    with _damage_in(path / DESCRIPTION_FILE):
        base, config = description["base"], build_config(description["config"])
        identity = (base["name"], base["revision"], base["sha256"])
        calibrations = {name: _calibration_of(learned) for name, learned in description["calibrations"].items()}
        template = Template.parse(description["template"]["text"], description["template"]["fields"])
        target = target_from_json(description["target"])
        scales = [Scale(**scale) for scale in description["scales"]]
    source = _find_base(path, base, config, trust_remote_code)
    backbone = _load_backbone(path, base, config, source, device)
    method = build_method(config, backbone, Codec(target, backbone), scales)
    with _damage_in(path / DESCRIPTION_FILE):
        answering = _answering_of(description, answering_of(config, method))
        contents = Contents(config, template, answering, *identity, description["record"], calibrations)
    with _damage_in(path / WEIGHTS_FILE):
        load_trainable_weights(method, load_file(path / WEIGHTS_FILE))
    return method.eval(), contents


def _load_backbone(path: Path, base: dict[str, Any], config: RunConfig, source: Source, device: str) -> Backbone:
    """Returns an artifact's base model with the artifact's own tokenizer; the arguments are those of `load_artifact`.

    Args:
        path: the artifact's directory.
        base: what its description says of the base model.
        config: its settings.
        source: where the base model's files are.
        device: where it goes.
    """
    special_tokens = base.get("frame")  # older artifacts have none
    changes: dict[str, Any] = {} if special_tokens is None else {"chat_template": False}  # which they contain
    if device != "auto" and config.model.device_map is not None:
        changes["device_map"] = device if config.model.quantization is not None else None
    model = config.model.model_copy(update=changes)
    with _damage_in(path / TOKENIZER_FOLDER):
        if not (path / TOKENIZER_FOLDER).is_dir():  # or its name would be taken as a hub id
            raise FileNotFoundError("no such folder")
        tokenizer = AutoTokenizer.from_pretrained(path / TOKENIZER_FOLDER, trust_remote_code=False)
    backbone = load_base(config.model_copy(update={"model": model}), source, tokenizer)
    with _damage_in(path / TOKENIZER_FOLDER):
        for piece in base["added_tokens"]:
            backbone.add_token(piece)
        backbone.use_special_tokens(special_tokens or {**backbone.special_tokens, "plain": False})
    return backbone


def _answering_of(description: dict[str, Any], answering: Answering) -> Answering:
    """Returns how a model's answers are chosen: as its settings say, with what was fitted after training."""
    thresholds = [None if labels is None else torch.tensor(labels) for labels in description["thresholds"]]
    mixes = answering.mixes
    if description["mixes"] is not None:
        mixes = tuple(Mix(**mix) for mix in description["mixes"])
    return replace(answering, thresholds=tuple(thresholds), mixes=mixes)


def _calibration_json(calibration: Calibration) -> dict[str, Any]:
    """Returns a calibration as JSON holds it; null is infinitely far off."""
    scores = [score if math.isfinite(score) else None for score in calibration.scores]
    learned = {"temperature": calibration.temperature, "uniform_fraction": calibration.uniform_fraction}
    return {**learned, "scores": scores}


def _calibration_of(saved: dict[str, Any]) -> Calibration:
    """Returns the calibration that `_calibration_json` described."""
    scores = tuple(math.inf if score is None else float(score) for score in saved["scores"])
    # Those of 0.6.0 do not name a uniform fraction.
    return Calibration(float(saved["temperature"]), scores, float(saved.get("uniform_fraction", 0.0)))


def _find_base(path: Path, base: dict[str, Any], config: RunConfig, trust_remote_code: bool) -> Source:
    """Returns where the base model's files are, refusing files other than those that the artifact was trained on."""
    name, wanted_hash = base["name"], base["sha256"]
    trusted = config.model.trust_remote_code
    if trusted and not trust_remote_code:
        raise ArtifactError(
            f"Expected leave to run the code of the base model '{name}', which '{path}' was fitted with, found none. "
            "Read that code, and if you trust it, use --trust-remote-code (trust_remote_code=True)."
        )
    try:
        source = find_source(name, base["revision"], trust_remote_code=trusted)
    except (BackboneError, UnknownNameError) as error:
        raise ArtifactError(
            f"Expected the base model '{name}' that '{path}' was trained on, and it cannot be had: {error}"
        ) from error
    found_hash = source.content_hash()
    if found_hash != wanted_hash:
        raise ArtifactError(
            f"Expected the base model '{name}' with the hash {wanted_hash[:12]}… that '{path}' was trained on, found "
            f"{found_hash[:12]}…. Restore that version of the model, or fit again."
        )
    return source


def read_run(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Returns the settings and the training record of an artifact, without its model.

    Args:
        path: the artifact's directory.

    Raises:
        ArtifactError: it is missing, damaged, or of a newer format.
    """
    description = _read_description(path)
    with _damage_in(path / DESCRIPTION_FILE):
        return build_config(description["config"]), dict(description["record"])


def _read_description(path: Path) -> dict[str, Any]:
    file = path / DESCRIPTION_FILE
    if not file.is_file():
        raise ArtifactError(
            f"Expected a PredGen artifact with a {DESCRIPTION_FILE}, found none at '{path}'. Check the path; a model "
            "is there when its fit is done."
        )
    with _damage_in(file):
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        saved_format = int(description["format"])
    if saved_format > FORMAT:
        raise ArtifactError(
            f"Expected an artifact of format {FORMAT} or older, found format {saved_format} in '{path}'. Update "
            f"predgen: pip install --upgrade predgen (this is {__version__})."
        )
    with _damage_in(file):
        model = description["config"]["model"]
        if model["method"] == "predgen":
            model.setdefault("director_form", "states")  # the only form before 0.7.0
    return description if saved_format == FORMAT else _upgraded(description)


def _upgraded(description: dict[str, Any]) -> dict[str, Any]:
    """Returns a description of format 1, whose targets had one field, in the present form."""
    mix, calibration = description.get("mix"), description.get("calibration")
    director = asdict(MIXES["director"])
    return {
        **description,
        "scales": [description["scale"]],
        "thresholds": [None],
        "mixes": [mix or director] if description["config"]["model"]["method"] == "predgen" else None,
        "calibrations": {} if calibration is None else {ALONE: calibration},
    }


@contextmanager
def _damage_in(file: Path) -> Iterator[None]:
    """Names the file of an artifact that cannot be read; its readers raise nearly any exception on damaged files."""
    try:
        yield
    except Exception as error:
        raise ArtifactError(
            f"Expected a readable {file.name} in the artifact, found damage in '{file}' ({type(error).__name__}: "
            f"{error}). Copy the artifact again, or fit again."
        ) from error
