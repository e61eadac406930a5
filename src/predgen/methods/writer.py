"""The Writer, a part of the generator and of predgen: it writes targets and knows their probabilities."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from predgen.backbones import Memory
from predgen.codec.codec import EncodedTargets
from predgen.codec.kinds import is_enumerable
from predgen.codec.trie import Trie
from predgen.measures.base import distribution_of_samples
from predgen.measures.distributions import PredictiveDistribution
from predgen.measures.kinds import measure_of
from predgen.methods.heads import Head
from predgen.methods.losses import TokenLoss, expected_value_loss, shares_cross_entropy, token_accuracy
from predgen.targets.record import field_values
from predgen.writing.decoding import Decoded, sample
from predgen.writing.sampling import scores_after
from predgen.writing.scoring import ScoredTree, TrieScores, best_first, score_all, score_likeliest
from predgen.writing.symbols import SymbolModel
from predgen.writing.targets import Decoding, WrittenTarget, memories_before, write_target

# `auto` scores all targets at once where that writes at most this many tokens for each decision of greedy decoding: a
# write of 60 tokens cost as much as three writes of one (26M parameters, prompts of 128 tokens).
NODES_PER_DECISION = 20
# Targets that are drawn for each row where there are too many to score them all: the standard error of a probability is
# at most 0.5 / √256 = 0.03.
NUM_SAMPLES = 256
# Records whose tree has more nodes than this are drawn; the mask of a tree grows with the square of its nodes.
MAX_RECORD_NODES = 1_000


@dataclass(frozen=True)
class ScoredFields:
    """What the Writer's probabilities of each field are computed from.

    Attributes:
        memories: what was read and written before each field, up to the last field that was asked for.
        scores: of each field's targets after its memory; None for a field that was not asked for, or has too many.
    """

    memories: list[Memory]
    scores: list[TrieScores | None]


class Writer(nn.Module):
    """Writes targets along the automaton, and gives the loss L_W and the probabilities of what can be written.

    It has no weights of its own, only tables: the method that it is a part of registers backbone and automaton.

    Args:
        symbols: the model of symbols.
        token_loss: what L_W is.
        fields: what heads mean by each field's truth, which the loss of the expected value is compared with.

    Attributes:
        tries: all targets of a field, to be scored in one write, by the field's index; fields with too many have none.
    """

    def __init__(self, symbols: SymbolModel, token_loss: TokenLoss, fields: Sequence[Head[Any]]) -> None:
        super().__init__()
        self.symbols = symbols
        self.token_loss = token_loss
        self.fields = tuple(fields)
        self.tries = nn.ModuleDict(
            {
                str(field_index): Trie(codec, full=symbols.full)
                for field_index, codec in enumerate(symbols.codec.field_codecs)
                if is_enumerable(codec.target)
            }
        )
        self._whole: Trie | None = None

    def trie_of(self, field_index: int) -> Trie | None:
        """Returns all targets of a field as a tree; None where there are too many."""
        key = str(field_index)
        trie = self.tries[key] if key in self.tries else None  # noqa: SIM401 - a ModuleDict has no get
        assert trie is None or isinstance(trie, Trie)
        return trie

    @property
    def only_trie(self) -> Trie | None:
        """All targets of a target of one field as a tree; None where there are several fields, or too many targets."""
        return self.trie_of(0) if len(self.fields) == 1 else None

    @property
    def learns_from_all(self) -> bool:
        """Whether L_W needs the scores of all targets, not of the gold one alone."""
        return self.token_loss.name == "expected_value" or any(head.field.soft for head in self.fields)

    def cheapest_decoding(self) -> str:
        """Returns `trie` where scoring all targets costs about as much as writing greedily; else `greedy`."""
        tries = [self.trie_of(field_index) for field_index in range(len(self.fields))]
        num_nodes = sum(trie.num_nodes for trie in tries if trie is not None)
        cheap = num_nodes <= NODES_PER_DECISION * self.symbols.codec.num_decisions
        return "trie" if cheap and None not in tries else "greedy"

    # ---- losses

    def loss(
        self, memory: Memory, logits: Float[Tensor, "batch target kept"], gold: EncodedTargets, truth: Tensor
    ) -> Float[Tensor, " batch"]:
        """Returns L_W of each row, from the logits at H[0..m-1] or from the scores of all numbers.

        Args:
            memory: what was read.
            logits: of the memory's vocabulary.
            gold: the gold targets.
            truth: as `Batch` has it.
        """
        symbols = self.symbols
        if self.learns_from_all:
            trie = self.trie_of(0)
            assert trie is not None  # `build_method` refuses numbers with too many values
            return self._loss_of_all(trie, score_all(symbols.backbone, memory, trie), truth)
        scores = symbols.scores(memory, logits, gold.states)
        counted = gold.mask if symbols.full else self.decided(gold)
        allowed = symbols.codec.allowed(gold.states)
        return self.token_loss(scores, gold.symbols, counted, allowed, symbols.codec.digits)

    def loss_of_tree(self, tree: ScoredTree, gold: EncodedTargets, truth: Tensor) -> Float[Tensor, " batch"]:
        """Returns each row's L_W of a target of one field, whose gold path the tree has: the same as `loss` after gold.

        Args:
            tree: all targets.
            gold: the gold targets.
            truth: as `Batch` has it.
        """
        symbols, trie = self.symbols, self.trie_of(0)
        assert trie is not None  # or there would be no tree
        if self.learns_from_all:
            return self._loss_of_all(trie, tree.log_probabilities, truth)
        length, scores = self._along_gold(tree, trie, gold)
        counted = (gold.mask if symbols.full else self.decided(gold))[:, :length]
        allowed = symbols.codec.allowed(gold.states)[:, :length]
        return self.token_loss(scores, gold.symbols[:, :length], counted, allowed, symbols.codec.digits)

    def _loss_of_all(
        self, trie: Trie, log_probabilities: Float[Tensor, "batch leaf"], truth: Tensor
    ) -> Float[Tensor, " batch"]:
        """Returns each row's L_W from the scores of all values.

        For a distribution that is its cross-entropy −Σ_k p_k log P(label k), the exact one, as labels are the leaves of
        the trie; it is the expectation under p of the path's negative log-likelihood. It is divided by the mean number
        of tokens that are decided in a label, as L_W of a label is the mean over its tokens: one number for all labels
        leaves the shares as the minimum.
        """
        head = self.fields[0]
        if head.field.soft:
            return shares_cross_entropy(log_probabilities, truth) / self._mean_decisions
        numbers, scale = head.learned(trie.numbers), head.scale
        return expected_value_loss(log_probabilities, numbers, truth[:, 0], mean=scale.mean, deviation=scale.deviation)

    @cached_property
    def _mean_decisions(self) -> float:
        """The number of tokens that L_W counts in a label, averaged over the labels."""
        trie, codec = self.only_trie, self.symbols.codec
        assert trie is not None  # labels always have one
        counts = []
        for value in trie.values:
            path = codec.path(value)
            states = [codec.state_after(path[:position]) for position in range(len(path))]
            counts.append(sum(self.symbols.full or len(codec.rows[state]) > 1 for state in states))
        return sum(counts) / len(counts)

    def _along_gold(
        self, tree: ScoredTree, trie: Trie, gold: EncodedTargets
    ) -> tuple[int, Float[Tensor, "batch target symbol"]]:
        """Returns how long the longest gold path is, and log P of each symbol at each of its positions."""
        length = min(gold.symbols.shape[1], trie.points.shape[1])
        points = trie.points[trie.leaves_of(gold.symbols, gold.mask)][:, :length]
        rows = torch.arange(len(points), device=points.device).unsqueeze(1)
        return length, tree.point_scores[rows, points]

    def decided(self, gold: EncodedTargets) -> Bool[Tensor, "batch target"]:
        """Returns the gold positions that had a choice."""
        return gold.mask & ~self.symbols.codec.forced(gold.states)

    def accuracies(self, memory: Memory, gold: EncodedTargets, decoded: Decoded) -> dict[str, Float[Tensor, ""]]:
        """Returns `writer_accuracy_gold` (teacher-forced) and `writer_accuracy_own` (free-running).

        They are shares of the gold tokens that had a choice, averaged over each example's tokens, then over examples.

        Args:
            memory: what was read.
            gold: the gold targets.
            decoded: the free-running output.
        """
        scores = scores_after(self.symbols, memory, gold, gold.symbols)
        decided, length = self.decided(gold), gold.symbols.shape[1]
        written = decoded.symbols.masked_fill(~decoded.mask, -1)
        written = nn.functional.pad(written, (0, length), value=-1)[:, :length]
        return {
            "writer_accuracy_gold": token_accuracy(scores.argmax(dim=-1), gold.symbols, decided),
            "writer_accuracy_own": token_accuracy(written, gold.symbols, decided),
        }

    def accuracies_of_tree(self, tree: ScoredTree, gold: EncodedTargets) -> dict[str, Float[Tensor, ""]]:
        """Returns what `accuracies` returns where the likeliest target is written, from the scores of all of them.

        Args:
            tree: all targets.
            gold: the gold targets.
        """
        trie = self.trie_of(0)
        assert trie is not None  # or there would be no tree
        length, scores = self._along_gold(tree, trie, gold)
        best = tree.log_probabilities.argmax(dim=1)
        written = trie.paths[best].masked_fill(~trie.path_mask[best], -1)
        written = nn.functional.pad(written, (0, length), value=-1)[:, :length]
        symbols, decided = gold.symbols[:, :length], self.decided(gold)[:, :length]
        return {
            "writer_accuracy_gold": token_accuracy(scores.argmax(dim=-1), symbols, decided),
            "writer_accuracy_own": token_accuracy(written, symbols, decided),
        }

    # ---- targets and their probabilities

    def write(self, memory: Memory, decoding: Decoding, *, with_states: bool) -> WrittenTarget:
        """Returns what is written along the automaton.

        Args:
            memory: what was read.
            decoding: how the targets are chosen.
            with_states: also return H[1..m].
        """
        tries = [self.trie_of(field_index) for field_index in range(len(self.fields))]
        return write_target(self.symbols, tries, memory, decoding, with_states=with_states)

    def score(self, written: WrittenTarget, wanted: Collection[int], trie_mass: float) -> ScoredFields:
        """Returns the scores of some fields' targets, each after the fields that were written before it.

        Args:
            written: what was written.
            wanted: the indices of the fields.
            trie_mass: as in `Decoding`.
        """
        memories = memories_before(self.symbols, written.chosen, max(wanted, default=0))
        scores = list(written.chosen.scores)  # one decoding needs them itself
        for field_index in wanted:
            trie = self.trie_of(field_index)
            if scores[field_index] is None and trie is not None:
                scores[field_index] = score_likeliest(self.symbols.backbone, memories[field_index], trie, trie_mass)
        return ScoredFields(memories, scores)

    def predictive(self, field_index: int, scored: ScoredFields, trie_mass: float) -> PredictiveDistribution:
        """Returns the Writer's predictive distribution of a field, after what was written before it.

        It is exact where the field has a trie that is written whole; else it covers the likeliest targets, or is
        estimated from sampled sets.

        Args:
            field_index: the field's.
            scored: what the distribution is computed from; targets without scores are scored now.
            trie_mass: as in `Decoding`.
        """
        symbols, trie = self.symbols.fields[field_index], self.trie_of(field_index)
        memory, scores = scored.memories[field_index], scored.scores[field_index]
        head = self.fields[field_index]
        if trie is None:
            if head.field.numeric:
                return PredictiveDistribution(best_first(symbols, memory))
            return distribution_of_samples(measure_of(head.field), _draws(symbols, memory), symbols.device)
        scores = score_likeliest(symbols.backbone, memory, trie, trie_mass) if scores is None else scores
        return head.distribution(trie, scores.log_probabilities, scores.covered)

    @property
    def marginals_are_exact(self) -> bool:
        """Whether a record's values are few enough to score them all; else its marginals are drawn."""
        if not is_enumerable(self.symbols.codec.target):
            return False
        num_nodes, num_before = 0, 1
        for field_index in range(len(self.fields)):
            trie = self.trie_of(field_index)
            assert trie is not None  # a record fits only if its fields do
            num_values = len(trie.values)
            # The whole of a field's tree stands below each value of the fields before it.
            is_last = field_index + 1 == len(self.fields)
            num_nodes += num_before * (trie.num_nodes + (0 if is_last else num_values))
            num_before *= num_values
            if num_nodes > MAX_RECORD_NODES:
                return False
        return True

    def marginals(self, memory: Memory, trie_mass: float) -> list[PredictiveDistribution]:
        """Returns the Writer's predictive distribution of each field, whatever the fields before it say.

        Args:
            memory: what was read.
            trie_mass: as in `Decoding`; for a target that is no record.
        """
        if len(self.fields) == 1:
            return [self.predictive(0, ScoredFields([memory], [None]), trie_mass)]
        symbols = self.symbols
        target = symbols.codec.target
        fields = target.fields
        if self.marginals_are_exact:
            if self._whole is None:
                self._whole = Trie(symbols.codec, full=symbols.full).to(symbols.device)
            probabilities = score_all(symbols.backbone, memory, self._whole).double().softmax(dim=-1)
            values = self._whole.values
            return [
                measure_of(field).distribution_of_values(field_values(target, values, name), probabilities)
                for name, field in fields.items()
            ]
        rows = _draws(symbols, memory)
        return [
            distribution_of_samples(
                measure_of(field), [field_values(target, row, name) for row in rows], symbols.device
            )
            for name, field in fields.items()
        ]


def _draws(symbols: SymbolModel, memory: Memory) -> list[list[Any]]:
    """Returns values that are drawn for each row from the Writer's distribution, the same in every call."""
    paths = sample(symbols, memory, number=NUM_SAMPLES)
    return [[symbols.codec.value_of(path) for path in row] for row in paths]
