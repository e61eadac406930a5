"""From a name to what is trained of the backbone: all of it, or an update beside frozen weights."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from peft import AdaLoraConfig, LoraConfig, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.lora import LoraLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import Tensor, nn

from predgen.adapters.adalora import begin_allocation, tuner_of
from predgen.adapters.low_rank import use_half_products
from predgen.adapters.rocoft import LINEAR, RowColumnUpdate, add_rocoft
from predgen.backbones import Backbone
from predgen.backbones.stacks import last_layers, outside
from predgen.errors import BackboneError
from predgen.names import PEFT_METHODS

TUNED_HEAD_LEARNING_RATE = 1e-3
# AdaLoRA's paper begins with half as much again as it ends with.
INITIAL_RANKS = 1.5


@dataclass(frozen=True)
class Update:
    """The settings of a PEFT update; the attributes are arguments of `apply_peft`."""

    rank: int
    writes: bool
    dropout: float = 0.0
    initial_rank: int | None = None
    orthogonality: float = 0.1
    axis: str = "rows"
    selection: str = "first"
    biases: bool = False
    seed: int = 0
    layers: int | None = None


def initial_rank_of(rank: int, initial_rank: int | None = None) -> int:
    """Returns the rank that AdaLoRA begins with: the given one, or half as much again as it ends with.

    Example:
        >>> initial_rank_of(16), initial_rank_of(1), initial_rank_of(16, 20)
        (24, 2, 20)
    """
    return initial_rank if initial_rank is not None else math.ceil(INITIAL_RANKS * rank)


def apply_peft(
    backbone: Backbone,
    peft: str,
    *,
    rank: int,
    writes: bool,
    dropout: float = 0.0,
    initial_rank: int | None = None,
    orthogonality: float = 0.1,
    axis: str = "rows",
    selection: str = "first",
    biases: bool = False,
    seed: int = 0,
    layers: int | None = None,
) -> None:
    """Marks what is trained of the backbone, adding the PEFT update in place.

    Args:
        backbone: the backbone; tokens that were added to it are trained in every case.
        peft: one of `predgen.names.PEFT_METHODS`; all but `none` train an update of every linear layer but the output.
        rank: the update's rank, whose scale is alpha / rank = 2; the mean rank that AdaLoRA ends with; how many rows or
            columns RoCoFT trains.
        writes: whether the method writes. If not, what only writing needs gets no gradient and is frozen.
        dropout: the dropout probability of updates of low rank.
        initial_rank: the rank that AdaLoRA begins with, as `initial_rank_of`.
        orthogonality: the weight of AdaLoRA's penalty, as `orthogonality_penalty`.
        axis: whether RoCoFT trains rows (output features) or columns (input features).
        selection: which of them; `magnitude` needs `choose_by_magnitude` afterwards.
        biases: whether RoCoFT trains biases too.
        seed: of RoCoFT's random selection.
        layers: how many of the last layers are trained, in each stack of layers; None for all, and what is around them.

    Raises:
        BackboneError: the model has no layer that can be updated, or fewer than are asked for.
        UnknownNameError: there is no such PEFT method.
    """
    update = Update(rank, writes, dropout, initial_rank, orthogonality, axis, selection, biases, seed, layers)
    PEFT_METHODS.load(peft)(backbone, update)
    if not writes:
        backbone.freeze_writer()
        _drop_frozen_updates(backbone.model)
    tuner = tuner_of(backbone.model)
    if tuner is not None:
        begin_allocation(tuner)


def train_all_weights(backbone: Backbone, update: Update) -> None:
    """Trains every weight of the backbone, or of its last layers; there is no update."""
    if update.layers is None:
        backbone.model.requires_grad_(True)
        return
    trained = last_layers(backbone.model, update.layers)
    _add_token_rows(backbone, update.writes)
    for layer in trained.values():
        layer.requires_grad_(True)


def train_nothing(backbone: Backbone, update: Update) -> None:
    """Trains nothing of the backbone but what was added to it."""
    _add_token_rows(backbone, update.writes)


def add_lora(backbone: Backbone, update: Update) -> None:
    """Adds an update of low rank (arXiv 2106.09685)."""
    _add_low_rank(backbone, "lora", update, LoraConfig, r=update.rank, lora_alpha=2 * update.rank)


def add_dora(backbone: Backbone, update: Update) -> None:
    """Adds an update of low rank whose direction and size are trained apart (arXiv 2402.09353)."""
    _add_low_rank(backbone, "dora", update, LoraConfig, r=update.rank, lora_alpha=2 * update.rank, use_dora=True)


def add_adalora(backbone: Backbone, update: Update) -> None:
    """Adds an update of low rank that is moved to where it helps (arXiv 2303.10512)."""
    initial_rank = initial_rank_of(update.rank, update.initial_rank)
    _add_low_rank(
        backbone,
        "adalora",
        update,
        AdaLoraConfig,
        init_r=initial_rank,
        target_r=update.rank,
        lora_alpha=2 * initial_rank,
        orth_reg_weight=update.orthogonality,
        total_step=1,  # set when the steps are known: `predgen.adapters.adalora.plan_ranks`
    )


def add_rows_or_columns(backbone: Backbone, update: Update) -> None:
    """Trains rows or columns of each matrix (arXiv 2410.10075).

    Raises:
        BackboneError: the model has no layer that can be updated.
    """
    layers = _linear_layers(backbone.model, update.layers)
    if not layers:
        raise BackboneError(f"Expected a model with linear layers for {PEFT_METHODS['rocoft'].title}, found none.")
    _add_token_rows(backbone, update.writes)
    add_rocoft(
        backbone.model,
        layers,
        rank=update.rank,
        axis=update.axis,
        selection=update.selection,
        biases=update.biases,
        seed=update.seed,
    )


def _add_low_rank(
    backbone: Backbone, peft: str, update: Update, config_class: type[LoraConfig], **options: Any
) -> None:
    """Adds an update of low rank to every linear layer but the output.

    Raises:
        BackboneError: the model has no layer that can be updated.
    """
    config = config_class(
        lora_dropout=update.dropout,
        target_modules="all-linear",
        exclude_modules=_without_update(backbone.model, update.layers) or None,
        trainable_token_indices=_added_rows(backbone, update.writes) or None,
        **options,
    )
    try:
        with quiet_peft():
            _freeze(backbone)
            backbone.model = get_peft_model(backbone.model, config)
        use_half_products(backbone.model)
    except ValueError as error:
        raise BackboneError(
            f"Expected a model with linear layers for {PEFT_METHODS[peft].title}, found none: {error}"
        ) from error


def _add_token_rows(backbone: Backbone, writes: bool) -> None:
    """Freezes the model and lets the rows of added tokens be trained, with peft's means, as under LoRA."""
    rows = _added_rows(backbone, writes)
    with quiet_peft():
        _freeze(backbone)
        if rows:
            config = LoraConfig(target_modules=DUMMY_TARGET_MODULES, trainable_token_indices=rows)
            backbone.model = get_peft_model(backbone.model, config)


def _freeze(backbone: Backbone) -> None:
    backbone.model.requires_grad_(False)
    if getattr(backbone.model, "is_quantized", False):
        # Norms and the output in float32, as QLoRA has them (arXiv 2305.14314).
        backbone.model = prepare_model_for_kbit_training(backbone.model, use_gradient_checkpointing=False)


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Keeps from the user what peft says of things that are as they should be."""
    with warnings.catch_warnings():
        # peft asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        # It finds out by itself how GPT-2 stores its matrices, and says so.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to", category=UserWarning)
        # It names the parts of experts, which transformers keeps in one tensor (Mixtral).
        warnings.filterwarnings("ignore", message="The following .*_pattern keys", category=RuntimeWarning)
        yield


def _linear_layers(model: Any, layers: int | None) -> list[nn.Module]:
    """Returns the layers that are updated, as by peft's `all-linear`: all linear layers but the output."""
    output, without = model.get_output_embeddings(), set(_without_update(model, layers))
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, LINEAR) and module is not output and name not in without
    ]


def _drop_frozen_updates(model: nn.Module) -> None:
    """Takes away updates that are never trained, which would do nothing, and which AdaLoRA would spend ranks on."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            is_update = isinstance(child, LoraLayer | RowColumnUpdate)
            if is_update and not any(parameter.requires_grad for parameter in child.parameters()):
                setattr(parent, name, child.base_layer)


def _without_update(model: Any, layers: int | None) -> list[str]:
    """Returns the names of linear layers that LoRA cannot update, and of those below the layers that are trained."""
    layer_names: list[str] = []
    if layers is not None:
        linear = [name for name, module in model.named_modules() if isinstance(module, LINEAR)]
        layer_names += outside(linear, last_layers(model, layers))
    for name, module in model.named_modules():
        # A Mamba's fused kernel takes the weight of its last layer, past any update.
        if hasattr(module, "conv1d") and hasattr(module, "out_proj"):
            layer_names.append(f"{name}.out_proj")
        # More than a linear map: Llama 4's router gives a pair.
        is_subclass = isinstance(module, nn.Linear) and type(module).__module__.startswith("transformers.models.")
        if is_subclass and not isinstance(module(module.weight[:1]), Tensor):
            layer_names.append(name)
    return layer_names


def _added_rows(backbone: Backbone, writes: bool) -> dict[str, list[int]]:
    """Returns the rows of added tokens that are trained, by the name of the matrix: an untied output has its own."""
    if not backbone.added_token_ids:
        return {}
    inputs, output = backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()
    matrices = [inputs]
    if backbone.model.config.is_encoder_decoder:  # a decoder may have a matrix of its own (T5Gemma)
        decoder_inputs = backbone.model.get_decoder().get_input_embeddings()
        if decoder_inputs is not None and decoder_inputs.weight is not inputs.weight:
            matrices.append(decoder_inputs)
    if writes and output is not None and output.weight is not inputs.weight:
        matrices.append(output)
    return {
        name: list(backbone.added_token_ids)
        for name, module in backbone.model.named_modules()
        if any(module is matrix for matrix in matrices)
    }
