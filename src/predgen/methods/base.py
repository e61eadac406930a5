"""What the three methods share: a loss for a batch, and answers for prompts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone
from predgen.codec.codec import Codec
from predgen.methods.answering import Answering, Sources, field_answer
from predgen.methods.answers import Answers
from predgen.methods.batch import Batch
from predgen.methods.heads import Head
from predgen.targets.record import Target
from predgen.writing.sampling import Draws
from predgen.writing.targets import Decoding


class Method(nn.Module, ABC):
    """A way to predict: `forward` gives the losses of a batch, `answer` the answers for prompts.

    Args:
        backbone: the language model.
        codec: the target automaton over its vocabulary.
        fields: what the heads' outputs mean, for each field; a target that is no record has one.

    Attributes:
        writes: whether it writes the target, so that logits are read and trained.
        samples: whether it is fed its own tokens in training.
        free_probabilities: whether label probabilities come with its answers at no cost.
    """

    writes: bool
    samples: bool = False
    free_probabilities: bool = True

    def __init__(self, backbone: Backbone, codec: Codec, fields: Sequence[Head[Any]]) -> None:
        super().__init__()
        # The names of saved weights begin with `backbone.`: it is registered here, and parts only refer to it.
        self.backbone = backbone
        self.codec = codec
        self.fields = tuple(fields)

    @property
    def target(self) -> Target:
        """What is predicted."""
        return self.codec.target

    @property
    def device(self) -> torch.device:
        """Where the method is."""
        device: torch.device = self.codec.symbols.device
        return device

    def max_written(self, decoding: Decoding) -> int:
        """Returns the most tokens that are written after a prompt."""
        return self.codec.max_length

    @abstractmethod
    def cheapest_decoding(self) -> str:
        """Returns the decoding that `auto` stands for."""

    def usual_answering(self) -> Answering:
        """Returns how it answers if nothing else is said: the written text, or the head over the states."""
        return Answering.of(Decoding(self.cheapest_decoding()), len(self.fields))

    @abstractmethod
    def forward(self, batch: Batch, draws: Draws | None = None) -> dict[str, Float[Tensor, ""]]:
        """Returns the losses of a batch: `loss` to minimize, and `writer_loss`, `director_loss` where they exist.

        Args:
            batch: the examples.
            draws: where the model is fed its own tokens; None feeds gold everywhere.
        """

    @abstractmethod
    def sources(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        answerings: Sequence[Answering],
        *,
        probabilities: bool,
        marginal: bool,
    ) -> Sources:
        """Returns what the answers for prompts are computed from; it takes the arguments of `answer_each`.

        All answerings share the decoding of the first one.
        """

    @torch.no_grad()
    def answer_each(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        answerings: Sequence[Answering],
        *,
        probabilities: bool = False,
        marginal: bool = False,
        quantiles: Sequence[float] = (),
    ) -> list[Answers]:
        """Returns the answers of one reading and one writing, chosen in several ways.

        Args:
            prompt: prompt tokens.
            prompt_mask: which of them are not padding.
            answerings: how the answers are chosen; with one decoding.
            probabilities: also return the probabilities of labels, or the spread of the Writer's numbers.
            marginal: let what is returned of a record's field hold whatever the fields before it say, instead of after
                what was written for them.
            quantiles: with the spread, also return the quantiles of the Writer's numbers at these shares.
        """
        sources = self.sources(prompt, prompt_mask, answerings, probabilities=probabilities, marginal=marginal)

        def answers(answering: Answering) -> Answers:
            by_field = [
                field_answer(
                    head,
                    of_field,
                    answering.of_field(field_index),
                    probabilities=probabilities,
                    quantiles=quantiles,
                )
                for field_index, (head, of_field) in enumerate(zip(self.fields, sources.fields, strict=True))
            ]
            return Answers.of_record(self.target, by_field, list(sources.texts))

        return [answers(answering) for answering in answerings]

    def answer(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        answering: Answering | None = None,
        *,
        probabilities: bool = False,
        marginal: bool = False,
    ) -> Answers:
        """Returns the answers for a batch of prompts, without gradients.

        Args:
            prompt: prompt tokens.
            prompt_mask: which of them are not padding.
            answering: how the answers are chosen; as `usual_answering` says if not given.
            probabilities: as in `answer_each`.
            marginal: as in `answer_each`.
        """
        answerings = [self.usual_answering() if answering is None else answering]
        return self.answer_each(prompt, prompt_mask, answerings, probabilities=probabilities, marginal=marginal)[0]

    def exposure(self, batch: Batch, decoding: Decoding) -> dict[str, Float[Tensor, ""]]:
        """Returns teacher-forced and free-running metrics; nothing for a method that does not write.

        Args:
            batch: the examples.
            decoding: how its own targets are written.
        """
        return {}

    def heads(self) -> Iterator[nn.Parameter]:
        """Returns the parameters that are not pretrained: the method's own, and new ones of the backbone."""
        for name, parameter in self.named_parameters():
            if not name.startswith("backbone."):
                yield parameter
        yield from self.backbone.new_parameters()

    # ---- heads over a state: for each field a standardized number, or the logits of labels

    @property
    def num_outputs(self) -> int:
        """Outputs of a head, of all fields together."""
        return num_outputs_of(self.fields)

    def head_loss(self, outputs: Float[Tensor, "batch output"], truth: Tensor) -> Float[Tensor, " batch"]:
        """Returns each row's loss of a head's outputs; of a record, the mean over its fields of relative losses.

        A relative loss is the loss divided by the loss of the best constant answer.
        """
        losses = self.field_losses(outputs, truth)
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean(dim=0)

    def field_losses(self, outputs: Float[Tensor, "batch output"], truth: Tensor) -> list[Float[Tensor, " batch"]]:
        """Returns each field's loss of each row; of several fields, divided by the loss of the best constant answer."""
        losses = [head.loss(outputs[:, head.outputs], truth[:, head.truth]) for head in self.fields]
        if len(losses) == 1:
            return losses
        return [loss / head.scale.constant_loss for loss, head in zip(losses, self.fields, strict=True)]

    def head_predictions(self, outputs: Float[Tensor, "batch output"]) -> list[Tensor]:
        """Returns what a head's outputs stand for, field by field: numbers, or the probabilities of labels."""
        return [head.predictions(outputs[:, head.outputs]) for head in self.fields]


def num_outputs_of(fields: Sequence[Head[Any]]) -> int:
    """Returns how many outputs the heads of some fields have together."""
    return sum(head.outputs.stop - head.outputs.start for head in fields)
