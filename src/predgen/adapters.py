"""What is trained of the backbone: all of it, or a PEFT update beside frozen weights."""

import warnings
from typing import Any, Literal

from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import Tensor, nn

from predgen.backbones import Backbone
from predgen.errors import BackboneError

PeftName = Literal["none", "lora"]

# Tuned on builtin:nano (docs/log.md) and scaled with the width, as the best rate falls with it (arXiv 2203.03466).
TUNED_LEARNING_RATE: dict[PeftName, float] = {"none": 2.5e-4, "lora": 1e-3}
TUNED_HIDDEN_SIZE = 256
TUNED_HEAD_LEARNING_RATE = 1e-3


def default_learning_rate(peft: PeftName, hidden_size: int) -> float:
    """Returns the tuned learning rate of the backbone's trained part: the one for width 256, times 256 / width."""
    return TUNED_LEARNING_RATE[peft] * min(1.0, TUNED_HIDDEN_SIZE / hidden_size)


def apply_peft(backbone: Backbone, peft: PeftName, *, rank: int, writes: bool, dropout: float = 0.0) -> None:
    """Marks what is trained of the backbone, adding the PEFT update in place.

    Args:
        backbone: the backbone; tokens that were added to it are trained in every case.
        peft: `none` trains all weights, `lora` a low-rank update of every linear layer (arXiv 2106.09685).
        rank: the update's rank; its scale is alpha / rank = 2.
        writes: whether the method writes. If not, what only writing needs gets no gradient and is frozen.
        dropout: LoRA's dropout probability.

    Raises:
        BackboneError: the model has no layer that LoRA can update.
    """
    if peft == "none":
        backbone.model.requires_grad_(True)
        if not writes:
            backbone.freeze_writer()
        return
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=dropout,
        target_modules="all-linear",
        exclude_modules=_without_update(backbone.model) or None,
        trainable_token_indices=_added_rows(backbone, writes) or None,
    )
    try:
        with warnings.catch_warnings():
            # peft asks transformers 5.23 for a property under its old name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            # It finds out by itself how GPT-2 stores its matrices, and says so.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to", category=UserWarning)
            # It names the parts of experts, which transformers keeps in one tensor (Mixtral).
            warnings.filterwarnings("ignore", message="The following .*_pattern keys", category=RuntimeWarning)
            if getattr(backbone.model, "is_quantized", False):
                # Norms and the output in float32, as QLoRA has them (arXiv 2305.14314).
                backbone.model = prepare_model_for_kbit_training(backbone.model, use_gradient_checkpointing=False)
            backbone.model = get_peft_model(backbone.model, config)
    except ValueError as error:
        raise BackboneError(f"Expected a model with linear layers for LoRA, found none: {error}") from error
    if not writes:
        backbone.freeze_writer()


def _without_update(model: Any) -> list[str]:
    """Returns the names of linear layers that LoRA cannot update."""
    found = []
    for name, module in model.named_modules():
        # A Mamba's fused kernel takes the weight of its last layer, past any update.
        if hasattr(module, "conv1d") and hasattr(module, "out_proj"):
            found.append(f"{name}.out_proj")
        # More than a linear map: Llama 4's router gives a pair.
        own = isinstance(module, nn.Linear) and type(module).__module__.startswith("transformers.models.")
        if own and not isinstance(module(module.weight[:1]), Tensor):
            found.append(name)
    return found


def _added_rows(backbone: Backbone, writes: bool) -> dict[str, list[int]]:
    """Returns the rows of added tokens that are trained, by the name of the matrix: an untied output has its own."""
    if not backbone.added_token_ids:
        return {}
    inputs, output = backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()
    matrices = [inputs]
    if backbone.model.config.is_encoder_decoder:  # a decoder may have a matrix of its own (T5Gemma)
        own = backbone.model.get_decoder().get_input_embeddings()
        if own is not None and own.weight is not inputs.weight:
            matrices.append(own)
    if writes and output is not None and output.weight is not inputs.weight:
        matrices.append(output)
    return {
        name: list(backbone.added_token_ids)
        for name, module in backbone.model.named_modules()
        if any(module is matrix for matrix in matrices)
    }
