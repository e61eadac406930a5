"""The method that everybody uses: pool the prompt's states and put a head on them."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones import Backbone
from predgen.codec.codec import Codec
from predgen.methods.answering import Answering, FieldSources, Sources
from predgen.methods.base import Method
from predgen.methods.batch import Batch
from predgen.methods.heads import Head
from predgen.methods.poolings import PooledHead
from predgen.writing.sampling import Draws


class Predictor(Method):
    """Maps the pooled states of the prompt to the prediction.

    Args:
        backbone: the language model.
        codec: the target automaton; the predictor writes nothing and takes only the target from it.
        fields: what the head's outputs mean, for each field.
        head: over the states of the prompt.
    """

    writes = False

    def __init__(self, backbone: Backbone, codec: Codec, fields: Sequence[Head[Any]], head: PooledHead) -> None:
        super().__init__(backbone, codec, fields)
        self.head = head

    def cheapest_decoding(self) -> str:
        """Returns a decoding that nothing is written by."""
        return "greedy"

    def forward(self, batch: Batch, draws: Draws | None = None) -> dict[str, Float[Tensor, ""]]:
        """Returns the head's loss as `loss`."""
        return {"loss": batch.mean(self.head_loss(self._outputs(batch.prompt, batch.prompt_mask), batch.truth))}

    def sources(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        answerings: Sequence[Answering],
        *,
        probabilities: bool,
        marginal: bool,
    ) -> Sources:
        """Returns the head's predictions; those of a record's fields do not depend on each other."""
        predictions = self.head_predictions(self._outputs(prompt, prompt_mask))
        nothing = [None] * len(prompt)
        return Sources(
            [FieldSources(list(nothing), list(nothing), directed=directed) for directed in predictions], list(nothing)
        )

    def _outputs(
        self, prompt: Int[Tensor, "batch prompt"], prompt_mask: Bool[Tensor, "batch prompt"]
    ) -> Float[Tensor, "batch output"]:
        outputs: Tensor = self.head(self.backbone.prompt_states(prompt, prompt_mask), prompt_mask)
        return outputs
