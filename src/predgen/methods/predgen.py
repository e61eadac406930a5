"""The paper's method: a Writer, a Director over what was written, scheduled sampling, one aligned loss."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Memory
from predgen.backbones.base import dropout_off
from predgen.codec.codec import EncodedTargets
from predgen.methods.answering import Answering, FieldChoice, FieldSources, Sources, choices_of
from predgen.methods.base import Method
from predgen.methods.batch import Batch
from predgen.methods.heads import Head
from predgen.methods.losses import Join, join_at_means, token_accuracy
from predgen.methods.writer import Writer
from predgen.parallel.processes import mean_over_processes, num_processes
from predgen.targets.record import field_values
from predgen.writing.sampling import Draws, sample_parallel, sample_sequential, scores_after
from predgen.writing.targets import Decoding

# What the decoding `auto` stands for, whatever it costs: the Director learns on tokens that are the likeliest one by
# one; on the likeliest number as a whole, often a short one, it did far worse (docs/developers/log.md).
AUTO_DECODING: str = "greedy"


@dataclass(frozen=True)
class Sampling:
    """How the model is fed its own tokens in training.

    Attributes:
        passes: parallel sampling passes; None samples one token after the other.
        reports_accuracy: also return the Writer's accuracy after gold prefixes, which the adaptive schedule follows.
        decoding: how whole targets are written for the Director to read.
    """

    passes: int | None = 1
    reports_accuracy: bool = False
    decoding: Decoding = field(default_factory=Decoding)


class PredGen(Method):
    """Writes the target; the Director maps the states of the written tokens to the prediction (arXiv 2502.17817).

    The prompt is read once with gradients on; sampling passes and the write share that memory.

    Args:
        writer: what writes.
        director: the head over the states of the written tokens.
        join: joins L_W and L_D into the loss.
        sampling: how the model is fed its own tokens.
        joins_linearly: whether the join is a weighted sum, which commutes with averaging over processes.
    """

    writes = True
    samples = True

    def __init__(
        self,
        writer: Writer,
        director: nn.Module,
        join: Join,
        sampling: Sampling | None = None,
        *,
        joins_linearly: bool = False,
    ) -> None:
        super().__init__(writer.symbols.backbone, writer.symbols.codec, writer.fields)
        self.writer = writer
        self.director = director
        self.join = join
        self.sampling = sampling or Sampling()
        self.joins_linearly = joins_linearly

    def cheapest_decoding(self) -> str:
        """Returns the one that the Director learns best on."""
        return AUTO_DECODING

    def forward(self, batch: Batch, draws: Draws | None = None) -> dict[str, Float[Tensor, ""]]:
        """Returns `loss`, `writer_loss` (L_W) and `director_loss` (L_D), and `writer_accuracy` if it is reported."""
        gold, symbols = batch.gold, self.writer.symbols
        draws = draws or Draws()
        memory = symbols.read(batch.prompt, batch.prompt_mask)
        fed, gold_scores = self._fed(memory, gold, draws)
        written = symbols.write(memory, fed, gold.mask)
        loss_writer = batch.mean(self.writer.loss(memory, written.logits[:, :-1], gold, batch.truth))
        read_states, read_mask, fields = written.states[:, 1:], gold.mask, self.codec.field_of_state[gold.states]
        if draws.director_own is not None:
            read_symbols, read_mask = self._director_reads(memory, gold, draws.director_own)
            read_states = symbols.write(memory, read_symbols, read_mask).states[:, 1:]
            fields = self.codec.fields_along(read_symbols, read_mask)
        outputs = self.directed(memory.state, read_states, read_mask, fields)
        loss_director = batch.mean(self.head_loss(outputs, batch.truth))
        losses = {
            "loss": self.joined(loss_writer, loss_director, len(batch)),
            "writer_loss": loss_writer,
            "director_loss": loss_director,
        }
        if self.sampling.reports_accuracy:
            if gold_scores is None:  # gold was fed
                logits = written.logits[:, :-1].detach()
                gold_scores = self.codec.log_probabilities(logits, gold.states, vocabulary=memory.vocabulary)
            chosen = gold_scores.argmax(dim=-1)
            losses["writer_accuracy"] = token_accuracy(chosen, gold.symbols, self.writer.decided(gold))
        return losses

    @torch.no_grad()
    def _fed(
        self, memory: Memory, gold: EncodedTargets, draws: Draws
    ) -> tuple[Int[Tensor, "batch target"], Float[Tensor, "batch target symbol"] | None]:
        """Returns the symbols that the Writer is fed, and its scores after gold prefixes where they were needed."""
        if draws.sampled is None:
            return gold.symbols, None
        symbols, passes = self.writer.symbols, self.sampling.passes
        memory = self.backbone.detach(memory)
        scores = None
        if self.sampling.reports_accuracy:
            with dropout_off(self.backbone):
                scores = scores_after(symbols, memory, gold, gold.symbols)
        if passes is None:
            return sample_sequential(symbols, memory, gold, draws.sampled, noise=draws.noise), scores
        fed = sample_parallel(
            symbols, memory, gold, draws.sampled, passes=passes, noise=draws.noise, gold_scores=scores
        )
        return fed, scores

    @torch.no_grad()
    def _director_reads(
        self, memory: Memory, gold: EncodedTargets, reads_written: Bool[Tensor, " batch"]
    ) -> tuple[Int[Tensor, "batch read"], Bool[Tensor, "batch read"]]:
        """Returns what each row's Director pools: free-running output, as in prediction, or the gold target."""
        with dropout_off(self.backbone):
            memory = self.backbone.detach(memory)
            decoded = self.writer.write(memory, self.sampling.decoding, with_states=False).decoded
        length = max(decoded.symbols.shape[1], gold.symbols.shape[1])

        def chosen(written: Tensor, taught: Tensor) -> Tensor:
            written, taught = (nn.functional.pad(table, (0, length - table.shape[1])) for table in (written, taught))
            return torch.where(reads_written.unsqueeze(1), written, taught)

        return chosen(decoded.symbols, gold.symbols), chosen(decoded.mask, gold.mask)

    @torch.no_grad()
    def exposure(self, batch: Batch, decoding: Decoding) -> dict[str, Float[Tensor, ""]]:
        """Returns the Writer's accuracy and L_D, each teacher-forced (on gold) and free-running (on its own output)."""
        gold, symbols = batch.gold, self.writer.symbols
        memory = symbols.read(batch.prompt, batch.prompt_mask)
        decoded = self.writer.write(memory, decoding, with_states=True).decoded
        assert decoded.states is not None  # asked for above
        metrics = self.writer.accuracies(memory, gold, decoded)
        states = symbols.write(memory, gold.symbols, gold.mask).states[:, 1:]
        written_fields = self.codec.fields_along(decoded.symbols, decoded.mask)
        outputs = {
            "director_loss_gold": self.directed(
                memory.state, states, gold.mask, self.codec.field_of_state[gold.states]
            ),
            "director_loss_own": self.directed(memory.state, decoded.states, decoded.mask, written_fields),
        }
        metrics |= {name: self.head_loss(predicted, batch.truth).mean() for name, predicted in outputs.items()}
        if len(self.fields) > 1:
            losses = self.field_losses(outputs["director_loss_own"], batch.truth)
            names = self.target.fields
            metrics |= {f"{name}.director_loss_own": loss.mean() for name, loss in zip(names, losses, strict=True)}
        return metrics

    def directed(
        self,
        start: Float[Tensor, "batch hidden"],
        states: Float[Tensor, "batch target hidden"],
        mask: Bool[Tensor, "batch target"],
        fields: Int[Tensor, "batch target"],
    ) -> Float[Tensor, "batch output"]:
        """Returns the Director's outputs; those of a field are read from the states of its own tokens.

        Args:
            start: H[0], which only a Director of the form `states+start` reads.
            states: H[1..m].
            mask: which positions were written.
            fields: the index of the field that each belongs to.
        """
        if len(self.fields) == 1:
            outputs: Tensor = self.director(states, mask, start)
            return outputs
        by_field = [self.director(states, mask & (fields == index), start) for index in range(len(self.fields))]
        return torch.cat([read[:, head.outputs] for read, head in zip(by_field, self.fields, strict=True)], dim=1)

    def joined(self, loss_writer: Float[Tensor, ""], loss_director: Float[Tensor, ""], count: int) -> Float[Tensor, ""]:
        """Returns the loss to minimize; its weights are those of the whole batch over all processes.

        Args:
            loss_writer: L_W of this process's examples.
            loss_director: L_D of this process's examples.
            count: how many examples this process has.
        """
        if self.joins_linearly or num_processes() == 1:
            return self.join(loss_writer, loss_director)
        means = mean_over_processes(torch.stack([loss_writer, loss_director]), count)
        return join_at_means(self.join, loss_writer, loss_director, (means[0], means[1]))

    def sources(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        answerings: Sequence[Answering],
        *,
        probabilities: bool,
        marginal: bool,
    ) -> Sources:
        """Returns the Director's predictions over the states of the written tokens, and the Writer's where needed.

        With `marginal` the Writer's are its marginals; the Director's stay what it reads in the written record.
        """
        decoding = answerings[0].decoding
        memory = self.writer.symbols.read(prompt, prompt_mask)
        wanted = [
            field_index
            for field_index, head in enumerate(self.fields)
            if any(
                _needs_distribution(head, choice, probabilities, marginal)
                for choice in choices_of(answerings, field_index)
            )
        ]
        written = self.writer.write(memory, decoding, with_states=True)
        decoded = written.decoded
        assert decoded.states is not None  # asked for above
        read_fields = self.codec.fields_along(decoded.symbols, decoded.mask)
        predictions = self.head_predictions(self.directed(memory.state, decoded.states, decoded.mask, read_fields))
        if marginal and wanted:
            predictive = dict(enumerate(self.writer.marginals(memory, decoding.trie_mass)))
        else:
            scored = self.writer.score(written, wanted, decoding.trie_mass)
            predictive = {index: self.writer.predictive(index, scored, decoding.trie_mass) for index in wanted}
        fields = [
            FieldSources(
                field_values(self.target, written.values, name),
                list(written.field_texts[field_index]),
                directed=predictions[field_index],
                predictive=predictive.get(field_index),
                text_decides=not marginal,
            )
            for field_index, name in enumerate(self.target.fields)
        ]
        return Sources(fields, list(written.texts))


def _needs_distribution(head: Head[Any], choice: FieldChoice, probabilities: bool, marginal: bool) -> bool:
    """Returns whether the Writer's distribution of a field is needed; its text is there already."""
    is_number = head.field.numeric
    has_share = choice.mix.writer != 0
    return (probabilities and is_number) or (has_share and (marginal or not is_number or choice.estimate != "text"))
