"""A predictor as an adapter of peft beside its base model, with the matrix of its head."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForSequenceClassification

from predgen.adapters import merged_copy
from predgen.adapters.applying import quiet_peft
from predgen.errors import BackboneError, ConfigError
from predgen.exporting.exportable import Exportable
from predgen.exporting.sequence_classes import (
    expected_logits,
    linear_map,
    load_base,
    logits_of,
    sequence_config,
)

UPDATES = ("lora", "dora")


def write_adapter(exportable: Exportable, folder: Path) -> list[str]:
    """Writes the adapter and the config of the class for sequences; returns what people must know of them.

    Args:
        exportable: what is exported.
        folder: where they go.

    Raises:
        BackboneError: the base model is none that transformers loads by its name, or the logits differ.
        ConfigError: the update is none of low rank; the pooling or the head has no counterpart.
    """
    name = base_name(exportable)
    matrix, shift = linear_map(exportable)
    config = sequence_config(exportable)
    config.vocab_size = exportable.merged.config.vocab_size
    model = AutoModelForSequenceClassification.from_config(config).float()
    score = getattr(model, "score", None)
    if not isinstance(score, torch.nn.Linear) or exportable.pooling != "last" or shift.any():
        raise ConfigError(
            "Expected a decoder with the pooling last and logits without a shift for an adapter, found another model. "
            "Leave the adapter out, so that its update is merged."
        )
    load_base(model, merged_copy(exportable.predictor.backbone, merge=False).base_model.state_dict())
    with torch.no_grad():
        score.weight.copy_(matrix)
    adapted = _with_update(exportable, model)
    exportable.check(logits_of(adapted, exportable), expected_logits(exportable), "an adapter")
    adapted.peft_config["default"].base_model_name_or_path = name
    adapted.peft_config["default"].revision = exportable.contents.base_revision
    adapted.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's own
    config.save_pretrained(folder)
    return [f"The base model '{name}' is needed, with the weights that this adapter was trained beside."]


def base_name(exportable: Exportable) -> str:
    """Returns the name of the base model.

    Raises:
        BackboneError: transformers cannot load it by that name.
        ConfigError: the update is none of low rank.
    """
    settings = exportable.contents.config.model
    if settings.peft not in UPDATES:
        raise ConfigError(
            f"Expected the update {' or '.join(UPDATES)} for an adapter, found {settings.peft}. Leave the adapter out."
        )
    name = exportable.contents.base_name
    is_folder = Path(name).is_dir()
    is_file = Path(name).is_file() or name.partition("@")[0].endswith(".gguf")  # which need not be there any more
    if name.startswith("builtin:") or is_file or exportable.predictor.backbone.added_token_ids:
        raise BackboneError(
            f"Expected a base model that transformers loads by its name, with every symbol of the target, found "
            f"'{name}'. Leave the adapter out, so that its update is merged."
        )
    return str(Path(name).resolve()) if is_folder else name.partition("@")[0]


def _with_update(exportable: Exportable, model: Any) -> Any:
    """Returns a class for sequences with a copy of the update beside its layers."""
    settings, own = exportable.contents.config.model, exportable.predictor.backbone.bare_model
    updates = {name: layer for name, layer in own.base_model.named_modules() if isinstance(layer, LoraLayer)}
    prefix = model.base_model_prefix
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        use_dora=settings.peft == "dora",
        target_modules=[f"{prefix}.{name}" for name in updates],
        modules_to_save=["score"],
    )
    with quiet_peft():
        adapted = get_peft_model(model, config)
    for name, layer in updates.items():
        weights = {key: values.cpu().float() for key, values in layer.state_dict().items() if key.startswith("lora_")}
        found = adapted.get_base_model().get_submodule(f"{prefix}.{name}")
        missing = [key for key in found.load_state_dict(weights, strict=False).missing_keys if key.startswith("lora_")]
        if missing:
            raise BackboneError(f"Expected the update of '{name}' to have '{missing[0]}', found none. Fit again.")
    return adapted.eval()
