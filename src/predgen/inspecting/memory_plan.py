"""The memory that fitting and predicting need, from a backbone's shape alone.

Weights, gradients and moments are counted on the method itself, built on torch's `meta` device with its PEFT update and
its heads, so they are exact. AdamW keeps two moments of a trained parameter in the parameter's own type (updates
and heads are float32 in every case), and a counter of 4 bytes for each tensor, which is left out. Activations, working
space and the key/value cache are counted over a step and an answer there, logits from the vocabulary. Not counted:
sampling passes, the framework's own memory, buffers, the optimizer's
scratch space (it works when activations are gone), what an allocator cannot use, and, in prediction on a CPU in
float32, the packed copy of at most 1 GiB of weights.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from predgen.adapters import initial_rank_of
from predgen.backbones import Backbone
from predgen.codec.codec import Codec
from predgen.config import RunConfig
from predgen.errors import ConfigError
from predgen.inspecting.activations import StepMemory, count_step
from predgen.methods import Method, PooledHead, PredGen, Scale
from predgen.methods.base import num_outputs_of
from predgen.methods.exact import ExactPredGen
from predgen.models.building import build_method
from predgen.names import PEFT_METHODS

MOMENTS = 2
# The logits of a training step: the model's, the copy that joins them with those of the prompt's end, the gradient.
LOGIT_COPIES = 3


def plan_memory(config: RunConfig, backbone: Backbone, codec: Codec, *, prompt_tokens: int) -> dict[str, Any]:
    """Returns the bytes of each part, for `fit` and for `predict`, as JSON holds them.

    Args:
        config: method, PEFT, rows of a batch.
        backbone: in the type of its weights, on the `meta` device, before PEFT, which is applied to it.
        codec: the target over its tokens.
        prompt_tokens: of each row.

    Raises:
        ConfigError: the model does not read so many tokens, or the target alone has as many.
        BackboneError: the model has no layer that can be updated.
    """
    rows, target_tokens, dtype = config.train.batch_size, codec.max_length, backbone.model.dtype
    longest = backbone.longest_prompt(target_tokens)
    if longest < 1:
        raise ConfigError(
            f"Expected a target that leaves room for a prompt, found one of {target_tokens} tokens, which is all that "
            "the model reads at once. Use shorter label words, fewer decimals, or a backbone that reads more."
        )
    if not 0 < prompt_tokens <= longest:
        raise ConfigError(
            f"Expected prompts of 1 to {longest} tokens before targets of {target_tokens}, found {prompt_tokens}. "
            "Give another --prompt-tokens, or a backbone that reads more."
        )
    with torch.device("meta"):
        # The codec's tables go to the device with the method; the caller's stay.
        method = build_method(config, backbone, copy.deepcopy(codec), [Scale()] * len(codec.target.fields))
    method.to("meta")
    trained = [one for one in method.parameters() if one.requires_grad]
    frozen = [one for one in method.parameters() if not one.requires_grad]
    logits = rows * (target_tokens + 1) * _target_vocabulary(backbone) * dtype.itemsize
    counted, note = _counted(method, rows, prompt_tokens)
    if counted is None and isinstance(method, ExactPredGen):  # a model that writes trees branch by branch
        director = PooledHead.of("attention", backbone.hidden_size, num_outputs_of(method.fields)).to("meta")
        counted, note = _counted(PredGen(method.writer, director, method.join), rows, prompt_tokens)
        note = note or "Activations and working space are those of director_form=states; the default needs more."
    parts = [
        _part("frozen weights", bytes_of(frozen), bytes_of(frozen)),
        _part("trained weights", bytes_of(trained), bytes_of(trained)),
        _part("gradients", bytes_of(trained), 0),
        _part("AdamW moments", MOMENTS * bytes_of(trained), 0),
        *([] if counted is None else _counted_parts(counted, bytes_of(trained), logits)),
    ]
    return {
        "method": config.model.method,
        "batch_size": rows,
        "prompt_tokens": prompt_tokens,
        "target_tokens": target_tokens,
        "dtype": str(dtype).removeprefix("torch."),
        "peft": config.model.peft,
        **_update(config),
        "parameters": sum(one.numel() for one in method.parameters()),
        "trained_parameters": sum(one.numel() for one in trained),
        "trained_backbone_parameters": sum(one.numel() for one in backbone.parameters() if one.requires_grad),
        "parts": parts,
        "fit_bytes": sum(part["fit_bytes"] for part in parts),
        "predict_bytes": sum(part["predict_bytes"] for part in parts),
        "note": note,
    }


def _counted(method: Method, rows: int, prompt_tokens: int) -> tuple[StepMemory | None, str | None]:
    """Returns the bytes of a step, or why they cannot be counted."""
    try:
        return count_step(method, rows, prompt_tokens), None
    except Exception as error:  # each family has its own way to fail without values
        reason = str(error).partition("\n")[0]
        return None, (
            "The plan is of weights, gradients and moments alone: activations and working space cannot be counted for "
            f"{type(method.backbone.bare_model).__name__}, whose forward needs values ({reason})."
        )


def _counted_parts(counted: StepMemory, gradients: int, logits: int) -> list[dict[str, Any]]:
    """Returns what a step and an answer need beside weights, gradients and moments; together it is their peak.

    Args:
        counted: their bytes.
        gradients: bytes that have a row of their own.
        logits: bytes of those of one write.
    """
    cache = min(counted.cache, counted.kept)  # in training, the gradients need them
    working = counted.step_peak - counted.kept - gradients - LOGIT_COPIES * logits
    answering = counted.answer_peak - counted.cache - logits
    return [
        _part("activations", counted.kept - cache, 0, estimated=True),
        _part("working space", max(0, working), max(0, answering), estimated=True),
        _part("logits", LOGIT_COPIES * logits, logits, estimated=True),
        _part("key/value cache", cache, counted.cache, estimated=True),
    ]


def _update(config: RunConfig) -> dict[str, Any]:
    """Returns the rank of the update in training, the mean one that AdaLoRA ends with, and what RoCoFT trains."""
    model = config.model
    peft = PEFT_METHODS[model.peft]
    rank = getattr(model, peft.rank_setting) if peft.rank_setting else None
    if model.peft == "adalora":
        rank = initial_rank_of(model.lora_rank, model.adalora_initial_rank)
    return {
        "rank": rank,
        "lora_rank": model.lora_rank if peft.is_low_rank else None,
        "rocoft_axis": model.rocoft_axis if model.peft == "rocoft" else None,
    }


def bytes_of(parameters: Iterable[nn.Parameter]) -> int:
    """Returns the bytes of some parameters."""
    return sum(one.numel() * one.element_size() for one in parameters)


def _part(name: str, fit: int, predict: int, *, estimated: bool = False) -> dict[str, Any]:
    return {"name": name, "fit_bytes": fit, "predict_bytes": predict, "estimated": estimated}


def _target_vocabulary(backbone: Backbone) -> int:
    """Returns the tokens that each step of writing has logits for.

    At most: where the check at load finds that a causal model's head is linear, they are the target's symbols alone.
    """
    return backbone.num_target_tokens
