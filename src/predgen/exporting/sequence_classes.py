"""A predictor as the class for sequences that transformers has for its family.

Such a class of a decoder maps the state of a prompt's last token to logits by a matrix without a bias; one of an
encoder maps the first token's state through a dense layer and an activation, and then by a matrix with a bias. Both
hold a linear head exactly, up to the rounding of float32:

    a shift in a decoder   where its last norm is a LayerNorm, W⁺ b is added to that norm's own shift, W being the
                           matrix and b the shift; a Llama's has none, and it gets one more layer (`_with_shift_layer`)
    the dense layer        a small ε times the identity, where tanh(ε y) = ε y and gelu(ε y) = ε y / 2; the matrix
                           behind it is divided by the same
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from predgen.errors import BackboneError, ConfigError
from predgen.exporting.exportable import Exportable
from predgen.methods.poolings import LinearMap
from predgen.targets.cells import label_key

# So small that rounding is larger than what tanh and gelu differ by from a linear map: states are below 2¹⁰.
SMALL = 2.0**-30
# Numbers of the layer that makes a constant: what its gate gives, and how large its outputs and the constant are. Each
# is so much larger than the one before that the smaller one is rounded away beside it, and none has a square beyond
# the largest float32.
GATE, OUTPUTS, CONSTANT = 2.0**5, 2.0**34, 2.0**56
SHIFT_NOTE = (
    "Its last layer is none of the base model: it holds the mean of the number, for which a Llama's class has no "
    "place. Use weights of float32 or bfloat16; those of float16 end at 65,504."
)


def write_sequence_class(exportable: Exportable, folder: Path) -> list[str]:
    """Writes the weights and the config; returns what people must know of them.

    Args:
        exportable: what is exported.
        folder: where they go.

    Raises:
        BackboneError: the family has no class that gives the same logits.
        ConfigError: the pooling or the head has no counterpart.
    """
    model, notes = sequence_model(exportable)
    model.save_pretrained(folder)
    return notes


def linear_map(exportable: Exportable) -> tuple[Float[Tensor, "logit size"], Float[Tensor, " logit"]]:
    """Returns the matrix and the shift from a pooled state to the logits, in float64.

    Raises:
        ConfigError: the head is none such map.
    """
    head = exportable.predictor.head.mlp
    if not isinstance(head, LinearMap):
        raise ConfigError(
            "Expected a linear head, as the classes of transformers have, found one with a normalization and a hidden "
            "layer. Fit with --set predictor_head=linear, or export an encoder with --to onnx."
        )
    matrix, shift = exportable.head.affine(head.weight.detach().cpu().double())
    return exportable.tempered(matrix), shift


def sequence_model(exportable: Exportable) -> tuple[Any, list[str]]:
    """Returns the model in float32, compared with ours on random prompts, and what people must know of it."""
    matrix, shift = linear_map(exportable)
    config = sequence_config(exportable)
    model = AutoModelForSequenceClassification.from_config(config).float()
    base = exportable.merged.base_model.state_dict()
    is_decoder = isinstance(getattr(model, "score", None), nn.Linear)
    needed = "last" if is_decoder else "first"
    if exportable.pooling != needed:
        found = "an encoder" if exportable.predictor.backbone.pooling == "mean" else "a decoder"
        raise ConfigError(
            f"Expected the pooling '{needed}', which {type(model).__name__} has, found '{exportable.pooling}'. Fit "
            f"with --pooling {needed}" + (", or use --to onnx." if found == "an encoder" else ".")
        )
    notes: list[str] = []
    candidates: Iterator[Any]
    if not is_decoder:
        candidates = _with_dense_layer(model, base, matrix, shift)
    elif not shift.any():
        candidates = iter([_with_score(model, base, matrix)])
    elif (name := _last_shift(exportable.merged.base_model)) is not None:
        base[name] = base[name] + (torch.linalg.pinv(matrix) @ shift).float()
        candidates = iter([_with_score(model, base, matrix)])
    elif config.model_type == "llama" and len(shift) < config.hidden_size:
        candidates, notes = iter([_with_shift_layer(config, base, matrix, shift)]), [SHIFT_NOTE]
    else:
        raise BackboneError(
            f"Expected a family whose class for sequences has a place for the mean of a number, found "
            f"{config.model_type}: its score has no bias, and its last norm no shift. Fit with --set "
            "standardize=false, or over a Llama, a GPT-2 or another family with a LayerNorm."
        )
    return _first_that_agrees(exportable, candidates), notes


def sequence_config(exportable: Exportable) -> Any:
    """Returns the config of the class for sequences.

    Raises:
        BackboneError: the family has none.
    """
    source, head = exportable.merged.config, exportable.head
    if type(source) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or source.is_encoder_decoder:
        kind = "an encoder-decoder" if getattr(source, "is_encoder_decoder", False) else "a family without one"
        raise BackboneError(
            f"Expected a decoder or an encoder with a class for sequences in transformers, found {kind}: "
            f"{source.model_type}. Fit over another backbone to export the model."
        )
    config = copy.deepcopy(source)
    labels = [label_key(label) for label in head.field.labels] or [_name_of(exportable)]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    config.problem_type = head.problem_type
    config.pad_token_id = exportable.pad_id
    config.vocab_size = exportable.predictor.backbone.num_prompt_tokens
    config.dtype = torch.float32
    return config


def _name_of(exportable: Exportable) -> str:
    """Returns the target's column."""
    columns = exportable.contents.config.data.target
    return columns if isinstance(columns, str) else str(columns[0])


def load_base(model: Any, weights: dict[str, Tensor], new: tuple[str, ...] = ()) -> None:
    """Copies the base model's weights into a model; a pooler that its class does not have is left out.

    Args:
        model: the new model.
        weights: of the base model.
        new: how the names of weights begin or end that the base model does not have.
    """
    missing, unexpected = model.base_model.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not (name.startswith(new) or name.endswith(new))]
    unexpected = [name for name in unexpected if not name.startswith("pooler.")]
    if missing or unexpected:
        raise BackboneError(
            f"Expected {type(model).__name__} to have the weights of the base model, found that "
            f"'{min(missing + unexpected)}' differs. Fit over another backbone to export the model."
        )


@torch.no_grad()
def _with_score(model: Any, base: dict[str, Tensor], matrix: Float[Tensor, "logit size"]) -> Any:
    """Returns a decoder's class with a matrix behind its last states."""
    load_base(model, base)
    model.score.weight.copy_(matrix)
    return model


def _last_shift(base: Any) -> str | None:
    """Returns the name of the shift of the LayerNorm that a decoder ends with; None where it ends with another norm."""
    norms = {
        name: module
        for name, module in base.named_modules()
        if "norm" in type(module).__name__.lower() and not any(part.isdigit() for part in name.split("."))
    }
    name, last = list(norms.items())[-1] if norms else ("", None)
    return f"{name}.bias" if isinstance(last, nn.LayerNorm) and last.bias is not None else None


@torch.no_grad()
def _with_shift_layer(
    config: Any, base: dict[str, Tensor], matrix: Float[Tensor, "logit size"], shift: Float[Tensor, " logit"]
) -> Any:
    """Returns a Llama with one more layer, which holds the matrix, and makes a constant for the shift.

    Its attention adds nothing. Its second norm is the one that the model ended with, so that its multilayer part reads
    y, the state that the head is of. The gate is a constant of its bias, the product with the rows of `up_proj` gives
    the matrix times y, and `down_proj` adds that, large, to as many entries of the state, and to one more a constant
    that is larger still. The last norm then divides the state by what is a constant up to rounding, and `score` takes
    the outputs and the shift from it.
    """
    config = copy.deepcopy(config)
    config.num_hidden_layers += 1
    config.mlp_bias = True
    model = AutoModelForSequenceClassification.from_config(config).float()
    layers, size, num = model.model.layers, config.hidden_size, len(shift)
    for name, parameter in model.named_parameters():
        if name.startswith(f"model.layers.{len(layers) - 1}.") or ".mlp." in name:
            parameter.zero_()
    load_base(model, base, new=(f"layers.{len(layers) - 1}.", "_proj.bias"))
    last, rows = layers[-1], torch.arange(num)
    last.post_attention_layernorm.weight.copy_(base["norm.weight"])
    model.model.norm.weight.fill_(1.0)
    # Rows of about 1 whatever the unit is: they are scaled back by `score`.
    unit = matrix.norm(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / size**0.5
    last.mlp.gate_proj.bias.fill_(GATE)
    last.mlp.up_proj.weight[:num] = (matrix / unit.unsqueeze(1)).float()
    last.mlp.down_proj.weight[rows, rows] = OUTPUTS / GATE
    last.mlp.down_proj.bias[num] = CONSTANT
    model.score.weight.zero_()
    model.score.weight[rows, rows] = (unit * CONSTANT / (OUTPUTS * size**0.5)).float()
    model.score.weight[:, num] = (shift / size**0.5).float()
    return model


def _with_dense_layer(
    model: Any, base: dict[str, Tensor], matrix: Float[Tensor, "logit size"], shift: Float[Tensor, " logit"]
) -> Iterator[Any]:
    """Yields an encoder's class whose dense layer does nothing, for each slope that its activation may have at 0."""
    size = matrix.shape[1]
    linear = [module for name, module in model.named_modules() if isinstance(module, nn.Linear) and _is_of_head(name)]
    dense = [layer for layer in linear if layer.weight.shape == (size, size)]
    outputs = [layer for layer in linear if layer.weight.shape == matrix.shape and layer not in dense[:1]]
    if len(dense) != 1 or len(outputs) != 1 or any(layer.bias is None for layer in linear):
        return
    load_base(model, base, new=("pooler.",))
    nn.init.zeros_(dense[0].bias)
    with torch.no_grad():
        dense[0].weight.copy_(SMALL * torch.eye(size))
    for slope in (1.0, 0.5):
        with torch.no_grad():
            outputs[0].weight.copy_(matrix / (SMALL * slope))
            outputs[0].bias.copy_(shift)
        yield model


def _is_of_head(name: str) -> bool:
    """Returns whether a module is none of the base model's layers, by its name."""
    parts = name.split(".")
    return "pooler" in parts or parts[0] in ("classifier", "pre_classifier", "head")


def expected_logits(exportable: Exportable) -> Float[Tensor, "batch logit"]:
    """Returns our logits of random prompts, in float64; numbers are not clipped to their range."""
    outputs = exportable.own_outputs(*exportable.random_prompts()).double()
    matrix, shift = exportable.head.affine(torch.eye(outputs.shape[1], dtype=torch.float64))
    return exportable.tempered(outputs @ matrix.T + shift)


@torch.no_grad()
def logits_of(model: Any, exportable: Exportable) -> Float[Tensor, "batch logit"]:
    """Returns the logits of a class for sequences of the same prompts, padded on the right."""
    tokens, mask = exportable.random_prompts()
    logits: Tensor = model.eval()(input_ids=tokens, attention_mask=mask.long()).logits
    return logits.double()


def _first_that_agrees(exportable: Exportable, candidates: Iterator[Any]) -> Any:
    """Returns the first model with our logits on random prompts.

    Raises:
        BackboneError: there is none.
    """
    expected, error = expected_logits(exportable), None
    for model in candidates:
        try:
            exportable.check(logits_of(model, exportable), expected, f"a {type(model).__name__}")
        except BackboneError as failed:
            error = failed
            continue
        return model
    if error is not None:
        raise error
    raise BackboneError(
        f"Expected a class for sequences with one dense layer before its outputs, found that of "
        f"{exportable.merged.config.model_type}, which has others. Use --to onnx."
    )
