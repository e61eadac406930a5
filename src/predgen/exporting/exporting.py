"""A fitted predictor becomes a folder that runs without this package."""

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path

from predgen.backbones.loading import quiet_loader
from predgen.errors import ConfigError, require, unknown_name
from predgen.exporting.adapter_folder import write_adapter
from predgen.exporting.exportable import Exportable
from predgen.exporting.onnx_graph import write_onnx
from predgen.exporting.prompt_file import PROMPT_FILE, prompt_facts
from predgen.exporting.readme import readme_of
from predgen.exporting.sequence_classes import write_sequence_class
from predgen.files import folder_appears_whole
from predgen.models.artifact import check_output, save_tokenizer
from predgen.models.card import CARD_FILE
from predgen.models.loading import load
from predgen.models.model import Model
from predgen.models.random_states import random_states_kept

log = logging.getLogger(__name__)

Write = Callable[[Exportable, Path], list[str]]
# What a folder can be for, and what writes it: the weights of an exportable model go into a folder, and what people
# must know of them comes back.
FORMATS: dict[str, Write] = {"transformers": write_sequence_class, "onnx": write_onnx}
# The packages that a format needs beside those of every installation.
PACKAGES = {"transformers": (), "onnx": ("onnx", "onnxscript", "onnxruntime")}


@random_states_kept()
def export_model(
    model: Model | str | Path,
    out: str | Path,
    *,
    to: str = "transformers",
    adapter: bool = False,
    overwrite: bool = False,
    threshold: bool = True,
    backbone: str | Path | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Writes a fitted predictor as a folder that runs without this package, whole or not at all; returns the folder.

    Beside the weights it has the tokenizer, `predgen_prompt.json` (how a row becomes tokens, and how answers are read
    from logits), and a README.md with an example. Weights are in float32, updates of the backbone merged into them.
    Before the folder appears, its logits are compared with the model's own on random prompts.

    Args:
        model: a model, or the directory of one.
        out: the folder.
        to: `transformers`: its class for sequences of the backbone's family; `onnx`: a graph, of encoders.
        adapter: keep an update of low rank as an adapter of peft beside the base model; of `transformers` alone.
        overwrite: replace an exported model that is there.
        threshold: as in `predgen.load`, of a directory; a threshold that was chosen cannot be exported.
        backbone: as there.
        trust_remote_code: as there.

    Raises:
        BackboneError: the backbone's family has no class or no graph that gives the same logits.
        ConfigError: the model is no predictor of one target, or its pooling or its head has no counterpart.
        MissingPackageError: a package of the format is not installed.
        OutputExistsError: the folder is there and is not to be replaced.
        UnknownNameError: there is no such format.
    """
    folder = Path(out)
    if to not in FORMATS:
        raise unknown_name("format", to, FORMATS)
    if adapter and to != "transformers":
        raise ConfigError(f"Expected the format transformers with an adapter, found '{to}'. Leave the adapter out.")
    check_output(folder, overwrite=overwrite, file=PROMPT_FILE, what="an exported model")
    for package in PACKAGES[to]:
        require(package, extra="onnx", what="an export to ONNX (--to onnx)")
    if not isinstance(model, Model):
        model = load(model, threshold=threshold, backbone=backbone, device="cpu", trust_remote_code=trust_remote_code)
    write = write_adapter if adapter else FORMATS[to]
    exportable = Exportable.of(model)
    with quiet_loader(), folder_appears_whole(folder, replace=overwrite) as made:
        notes = write(exportable, made)
        _write_tokenizer(exportable, made)
        facts = prompt_facts(exportable, to="adapter" if adapter else to)
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
        (made / PROMPT_FILE).write_text(text + "\n", encoding="utf-8")
        (made / CARD_FILE).write_text(readme_of(facts, notes), encoding="utf-8")
    for note in notes:
        log.info("%s", note)
    return folder


def _write_tokenizer(exportable: Exportable, folder: Path) -> None:
    """Writes the tokenizer, which pads as the model needs it."""
    tokenizer = copy.deepcopy(exportable.predictor.backbone.tokenizer)
    tokenizer.padding_side = "right"
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(exportable.pad_id)
    save_tokenizer(tokenizer, folder)
