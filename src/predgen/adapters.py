"""What is trained of the backbone: all of it, or a PEFT update beside frozen weights."""

import warnings
from typing import Literal

from peft import LoraConfig, get_peft_model

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
        writes: whether the method reads logits. If not, an output matrix of its own gets no gradient and is frozen.
        dropout: LoRA's dropout probability.

    Raises:
        BackboneError: the model has no layer that LoRA can update.
    """
    if peft == "none":
        backbone.model.requires_grad_(True)
        output = backbone.model.get_output_embeddings()
        if not writes and output is not None and output.weight is not backbone.model.get_input_embeddings().weight:
            output.requires_grad_(False)
        return
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=dropout,
        target_modules="all-linear",
        trainable_token_indices=_added_rows(backbone, writes) or None,
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            # peft asks transformers 5.23 for a property under its old name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            # It finds out by itself how GPT-2 stores its matrices, and says so.
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to", category=UserWarning)
            backbone.model = get_peft_model(backbone.model, config)
    except ValueError as error:
        raise BackboneError(f"Expected a model with linear layers for LoRA, found none: {error}") from error


def _added_rows(backbone: Backbone, writes: bool) -> dict[str, list[int]]:
    """Returns the rows of added tokens that are trained, by the name of the matrix: an untied output has its own."""
    if not backbone.added_token_ids:
        return {}
    inputs, output = backbone.model.get_input_embeddings(), backbone.model.get_output_embeddings()
    matrices = [inputs]
    if writes and output is not None and output.weight is not inputs.weight:
        matrices.append(output)
    return {
        name: list(backbone.added_token_ids)
        for name, module in backbone.model.named_modules()
        if any(module is matrix for matrix in matrices)
    }
