"""What a backbone is, how its tokenizer writes a target, and the memory that it needs."""

import copy
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from predgen.backbones import Backbone, Source, find_local, load_backbone, new_backbone, read_shape
from predgen.backbones.configs import UNLIMITED_POSITIONS
from predgen.backbones.gguf.tokenizer import said_of_tokenizer
from predgen.codec.codec import Codec
from predgen.config import RunConfig, build_config
from predgen.errors import BackboneError
from predgen.inspecting.known_shapes import KNOWN_SHAPES, known_config, one_token_each
from predgen.inspecting.memory_plan import plan_memory
from predgen.inspecting.token_report import target_report, tokenizer_report
from predgen.targets.number import Number
from predgen.targets.record import Target

PROMPT_TOKENS = 128
# What the plan takes as target where none is given.
ASSUMED_TARGET = Number(0.0, 99.9, 1, declared=True)


@dataclass(frozen=True)
class Inspection:
    """What `inspect_backbone` says of a backbone.

    Attributes:
        backbone: its kind, its sizes, whether it takes the cached path.
        tokenizer: special tokens, and how digits are written; None if there is no tokenizer.
        target: how the target is written; None if none was given, or a label's words cannot be known.
        plan: the bytes that fitting and predicting need.
        notes: what is missing or was assumed, in sentences.
    """

    backbone: dict[str, Any]
    tokenizer: dict[str, Any] | None
    target: dict[str, Any] | None
    plan: dict[str, Any]
    notes: list[str]

    @property
    def problems(self) -> list[str]:
        """The reasons for which `fit` would refuse the target, in sentences."""
        return [] if self.target is None else list(self.target["problems"])

    def to_json(self) -> dict[str, Any]:
        """Returns the inspection as plain JSON values."""
        return asdict(self)


def inspect_backbone(
    backbone: str,
    target: Target | None = None,
    *,
    config: RunConfig | None = None,
    revision: str | None = None,
    load: bool = True,
    prompt_tokens: int | None = None,
    **settings: Any,
) -> Inspection:
    """Returns what a backbone is, how its tokenizer writes a target, and the memory that it needs.

    Nothing is downloaded. Of a backbone without weights on this machine the shape is enough for the plan.

    Args:
        backbone: a local folder, a GGUF file, a hub id in the local cache, a builtin model, or one of known shape.
        target: what is to be predicted: a `Number`, a `Label`, a `LabelSet` or a `Record`.
        config: the settings of a run that the plan is for; None for the defaults.
        revision: the hub revision.
        load: read the weights if they are there, which shows the path that the backbone takes.
        prompt_tokens: tokens of each prompt, for the plan; 128 if not given, or as many as the model reads.
        settings: settings of `predgen.config` that the plan depends on: `batch_size`, `dtype`, `peft`, `lora_rank`,
            `trained_layers`, `rocoft_rank`. They stand above those of `config`.

    Raises:
        PredGenError: there is no such backbone, it cannot be used, or a setting is wrong.
    """
    config = config or build_config({"data.data": "", "data.target": ""})
    given = {name: value for name, value in settings.items() if value is not None}
    config = config.changed(**given, **{"model.backbone": backbone})
    source = find_local(backbone, revision)
    notes: list[str] = []
    shape, tokenizer, has_weights = _shape_of(backbone, source, notes)
    any_tokenizer = tokenizer if tokenizer is not None else one_token_each()
    made = new_backbone(shape, backbone, copy.deepcopy(any_tokenizer), dtype=config.model.weights_type)
    facts = _facts(made, backbone if source is None else source.name, source, shape)
    report = None if tokenizer is None else tokenizer_report(made)
    if report is not None:
        report["gguf"] = None if source is None or source.gguf is None else said_of_tokenizer(source.gguf)
    if source is not None and has_weights and tokenizer is not None and load:
        facts |= _path(source, config.model.weights_type)
    elif has_weights:
        notes.append("The weights were not read, so the road that the backbone takes is not known.")
    written, codec = (None, None) if target is None else target_report(made, target)
    if tokenizer is None and target is not None:
        written = _without_tokenizer(target, written, notes)
    if codec is None:
        notes.append(
            f"The plan is for numbers such as {ASSUMED_TARGET.high}, as "
            + ("no target was given." if target is None else "the tokens of the target cannot be told.")
        )
        codec = Codec(ASSUMED_TARGET, made)
    if prompt_tokens is None:
        prompt_tokens = min(PROMPT_TOKENS, made.longest_prompt(codec.max_length))
    plan = plan_memory(config, made, codec, prompt_tokens=prompt_tokens)
    if plan["note"] is not None:
        notes.append(plan["note"])
    return Inspection(facts, report, written, plan, notes)


def _shape_of(backbone: str, source: Source | None, notes: list[str]) -> tuple[Any, Any | None, bool]:
    """Returns a backbone's config, its tokenizer if it is there, and whether its weights are; what is missing is noted.

    Raises:
        BackboneError: there is no such backbone.
    """
    if source is None and backbone in KNOWN_SHAPES:
        notes.append(f"{backbone} is not on this machine: its shape is known, its weights and its tokenizer are not.")
        return known_config(backbone), None, False
    if source is None:
        raise BackboneError(
            f"Expected a backbone on this machine, found none for '{backbone}'. Download it first (hf download "
            f"{backbone}), name a folder with its config.json, or one that is known by its shape: "
            f"{', '.join(KNOWN_SHAPES)}."
        )
    shape, tokenizer, has_weights = read_shape(source)
    if not has_weights:
        notes.append("There are no weights (*.safetensors, pytorch_model*.bin): what follows is of the shape alone.")
    if tokenizer is None:
        notes.append("There is no tokenizer (tokenizer.json): how it writes cannot be said.")
    return shape, tokenizer, has_weights


def _facts(backbone: Backbone, name: str, source: Source | None, config: Any) -> dict[str, Any]:
    """Returns a backbone's kind and sizes."""
    writer = backbone.added_writer
    return {
        "name": name,
        "revision": None if source is None else source.revision,
        "kind": backbone.title,
        "class": type(backbone.model).__name__,
        "model_type": config.model_type,
        "parameters": _num_parameters(backbone.model),
        "writer_parameters": None if writer is None else _num_parameters(writer),
        "hidden_size": backbone.hidden_size,
        "prompt_layers": int(backbone.model.config.get_text_config(encoder=True).num_hidden_layers),
        "target_layers": _num_target_layers(backbone),
        "embedding_rows": int(backbone.model.get_input_embeddings().weight.shape[0]),
        "max_tokens": None if backbone.max_positions >= UNLIMITED_POSITIONS else backbone.max_positions,
        "pooling": backbone.pooling,
        "road": None,
        "trees": None,
    }


def _num_target_layers(backbone: Backbone) -> int | None:
    """Returns the layers of what writes targets, if that is not what reads prompts."""
    if backbone.added_writer is not None:
        writer: Any = backbone.added_writer
        return int(writer.config.num_hidden_layers)
    config = backbone.model.config
    if not config.is_encoder_decoder:
        return None
    layers = (getattr(config, name, None) for name in ("num_decoder_layers", "decoder_layers", "num_hidden_layers"))
    return int(next(count for count in layers if count is not None))


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _path(source: Source, dtype: str) -> dict[str, str]:
    """Returns the path that the check at load chose, in the words of the report."""
    capabilities = load_backbone(source, dtype=dtype).capabilities
    return {
        "road": "cached" if capabilities.cached else "plain",
        "trees": "in one forward" if capabilities.masks_trees else "row by row",
    }


def _without_tokenizer(target: Target, written: dict[str, Any] | None, notes: list[str]) -> dict[str, Any] | None:
    """Returns the report of a target whose tokenizer is missing: the lengths of a number's texts, and no words."""
    if not target.numeric:
        notes.append(
            "Without the tokenizer, the plan takes one token for each character of a label, which is the most."
        )
        return None
    assert written is not None
    return written | {"examples": [example | {"pieces": list(example["text"])} for example in written["examples"]]}
