"""The method that everybody uses: pool the prompt's states and put a head on them."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones import Backbone
from predgen.codec.codec import Codec
from predgen.methods.answers import Answers
from predgen.methods.base import Method
from predgen.methods.directors import POOL, Mlp
from predgen.methods.heads import Scale
from predgen.writing.sampling import Draws

Pooling = Literal["auto", "last", "mean", "first"]


class Predictor(Method):
    """Pools the states of the prompt (last, mean or first token) and maps them to the prediction.

    Args:
        backbone: the language model.
        codec: the target automaton; the predictor writes nothing and takes only the target from it.
        scales: what the training values say, for each field.
        pooling: what is pooled; `auto` is what the backbone's states are best read by.
    """

    writes = False

    def __init__(self, backbone: Backbone, codec: Codec, scales: Sequence[Scale], *, pooling: Pooling = "auto") -> None:
        super().__init__(backbone, codec, scales)
        self.pooling = backbone.pooling if pooling == "auto" else pooling
        self.head = Mlp(backbone.prompt_size, self.num_outputs)

    def forward(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        symbols: Int[Tensor, "batch target"],
        symbol_mask: Bool[Tensor, "batch target"],
        states: Int[Tensor, "batch target"],
        truth: Tensor,
        draws: Draws | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """Returns the head's loss as `loss`."""
        return {"loss": self.head_loss(self._outputs(prompt, prompt_mask), truth)}

    @torch.no_grad()
    def answer(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        *,
        probabilities: bool = False,
        marginal: bool = False,
    ) -> Answers:
        """Returns the head's answers; those of a record's fields do not depend on each other."""
        outputs = self._outputs(prompt, prompt_mask)
        written = self.written_nothing(len(outputs))
        answers = self.answers_of(self.head_predictions(outputs), written, probabilities=probabilities)
        return Answers.of_record(self.target, answers, [None] * len(outputs))

    def _outputs(
        self, prompt: Int[Tensor, "batch prompt"], prompt_mask: Bool[Tensor, "batch prompt"]
    ) -> Float[Tensor, "batch output"]:
        states = self.backbone.prompt_states(prompt, prompt_mask)
        outputs: Tensor = self.head(POOL[self.pooling](states, prompt_mask))
        return outputs
