"""All targets scored in one write: a Director that reads the states of all prefixes, weighted by the Writer."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Memory
from predgen.codec.trie import Trie
from predgen.methods.answering import Answering, FieldSources, Sources
from predgen.methods.batch import Batch
from predgen.methods.losses import Join
from predgen.methods.poolings import Attention, Mlp
from predgen.methods.predgen import PredGen
from predgen.methods.writer import Writer
from predgen.writing.prefixes import read_prefixes_and_path
from predgen.writing.sampling import Draws
from predgen.writing.scoring import ScoredTree, read_and_score_tree
from predgen.writing.targets import Decoding

# Prefixes that the Director reads at most, where there is a level of fewer: 60 of them (`d.dd`) made a training step
# over prompts of 128 tokens 1.65 times as long as the pooled predictor's, the first 12 of them 1.18.
MOST_READ = 16


class PrefixDirector(nn.Module):
    """Reads the state after the prompt, and the states of all written prefixes, each as much as it is probable.

    Its input is [H[0], Σ_n a_n h_n], where h_n is the state of the prefix n, and a_n is the softmax over the prefixes
    of log P(n) + qᵀ h̄_n, h̄_n being h_n normalized: attention whose prior is the Writer. Where one symbol tells all
    targets apart, there are no prefixes, and it reads H[0] alone.

    Args:
        hidden_size: size of the states.
        num_outputs: as in `PooledHead.of`.
        has_prefixes: whether there are any.
        starts_at_zero: whether its last layer starts at zero, so that at first it says nothing.
    """

    def __init__(self, hidden_size: int, num_outputs: int, *, has_prefixes: bool, starts_at_zero: bool) -> None:
        super().__init__()
        self.attention = Attention(hidden_size) if has_prefixes else None
        self.mlp = Mlp((1 + has_prefixes) * hidden_size, num_outputs, hidden_size)
        if starts_at_zero:
            nn.init.zeros_(self.mlp.output.weight)
            nn.init.zeros_(self.mlp.output.bias)

    def forward(
        self,
        start: Float[Tensor, "batch hidden"],
        states: Float[Tensor, "batch node hidden"],
        log_reached: Float[Tensor, "batch node"],
    ) -> Float[Tensor, "batch output"]:
        """Returns the outputs, or what is added to the Writer's.

        Args:
            start: H[0].
            states: of each prefix after which something is still decided; there may be none.
            log_reached: log P of each prefix, in nats.
        """
        read = start.float()
        if self.attention is not None:
            every = torch.ones_like(log_reached, dtype=torch.bool)
            read = torch.cat([read, self.attention(states, every, log_reached)], dim=-1)
        outputs: Tensor = self.mlp(read)
        return outputs


class ExactPredGen(PredGen):
    """Scores all targets in one write; the Director reads the expectation of their states under the Writer.

    Nothing is drawn, and the Director reads no gold: it learns from the very states and probabilities that it reads in
    prediction. The Writer learns from the same write. Where targets have many prefixes, the Director reads those of the
    first levels alone, so that in training these and the gold path are written instead of all.

    Args:
        writer: what writes; its target is one field with few enough values to score them all.
        director: a `PrefixDirector`.
        join: as in `PredGen`.
        adds_writer: whether the Director's outputs are added to the Writer's: to log P(label), or to the standardized
            expected value of a number.
        joins_linearly: as in `PredGen`.
    """

    samples = False

    def __init__(
        self,
        writer: Writer,
        director: PrefixDirector,
        join: Join,
        *,
        adds_writer: bool,
        joins_linearly: bool = False,
    ) -> None:
        super().__init__(writer, director, join, joins_linearly=joins_linearly)
        self.adds_writer = adds_writer
        num_nodes = self._trie.num_nodes
        self.num_read = num_nodes if adds_writer else self._trie.num_within(MOST_READ)
        # All targets are scored in training where L_W or the Director needs them, or they cost no more.
        self.scores_all = adds_writer or writer.learns_from_all or self.num_read == num_nodes

    def cheapest_decoding(self) -> str:
        """Returns `trie`: all targets are scored in any case."""
        return "trie"

    def forward(self, batch: Batch, draws: Draws | None = None) -> dict[str, Float[Tensor, ""]]:
        """Returns `loss`, `writer_loss` (L_W) and `director_loss` (L_D)."""
        if self.scores_all:
            memory, tree = self._read_and_scored(batch.prompt, batch.prompt_mask)
            losses_writer = self.writer.loss_of_tree(tree, batch.gold, batch.truth)
            outputs = self.told(memory, tree)
        else:
            prompt, fed = (batch.prompt, batch.prompt_mask), batch.gold.symbols[:, :-1]
            memory, prefixes = read_prefixes_and_path(self.writer.symbols, prompt, self._trie, self.num_read, fed)
            losses_writer = self.writer.loss(memory, prefixes.logits, batch.gold, batch.truth)
            outputs = self._directed(memory, prefixes.states, prefixes.point_scores)
        loss_writer = batch.mean(losses_writer)
        loss_director = batch.mean(self.head_loss(outputs, batch.truth))
        return {
            "loss": self.joined(loss_writer, loss_director, len(batch)),
            "writer_loss": loss_writer,
            "director_loss": loss_director,
        }

    def told(self, memory: Memory, tree: ScoredTree) -> Float[Tensor, "batch output"]:
        """Returns the Director's outputs, those of the Writer added where they are.

        Args:
            memory: what was read.
            tree: all targets.
        """
        outputs = self._directed(memory, tree.states[:, : self.num_read], tree.point_scores)
        if self.adds_writer:
            outputs = outputs + self.fields[0].writer_outputs(self._trie, tree.log_probabilities.float())
        return outputs

    def _directed(
        self, memory: Memory, states: Float[Tensor, "batch read hidden"], scores: Float[Tensor, "batch point symbol"]
    ) -> Float[Tensor, "batch output"]:
        outputs: Tensor = self.director(memory.state, states, self._trie.log_prefixes(scores, self.num_read))
        return outputs

    def _read_and_scored(
        self, prompt: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
    ) -> tuple[Memory, ScoredTree]:
        return read_and_score_tree(self.writer.symbols, prompt, mask, self._trie)

    @property
    def _trie(self) -> Trie:
        trie = self.writer.trie_of(0)
        assert trie is not None  # `build_method` takes another form where there are too many values
        return trie

    @torch.no_grad()
    def exposure(self, batch: Batch, decoding: Decoding) -> dict[str, Float[Tensor, ""]]:
        """Returns the Writer's accuracy after gold prefixes and after its own, and L_D, which reads no gold."""
        memory, tree = self._read_and_scored(batch.prompt, batch.prompt_mask)
        if decoding.name == "trie":
            metrics = self.writer.accuracies_of_tree(tree, batch.gold)
        else:
            written = self.writer.write(memory, decoding, with_states=True)
            metrics = self.writer.accuracies(memory, batch.gold, written.decoded)
        metrics["director_loss_own"] = self.head_loss(self.told(memory, tree), batch.truth).mean()
        return metrics

    def sources(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        answerings: Sequence[Answering],
        *,
        probabilities: bool,
        marginal: bool,
    ) -> Sources:
        """Returns the Director's predictions, and the Writer's distribution, which is known in any case."""
        memory, tree = self._read_and_scored(prompt, prompt_mask)
        predictions = self.head_predictions(self.told(memory, tree))
        if answerings[0].decoding.name == "trie":
            values, texts = self._trie.best(tree.log_probabilities)
        else:
            written = self.writer.write(memory, answerings[0].decoding, with_states=False)
            values, texts = written.values, list(written.texts)
        covered = torch.ones_like(tree.log_probabilities[:, 0])
        predictive = self.fields[0].distribution(self._trie, tree.log_probabilities, covered)
        field = FieldSources(
            values, list(texts), directed=predictions[0], predictive=predictive, text_decides=not marginal
        )
        return Sources([field], list(texts))
