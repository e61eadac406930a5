"""Writing the target: what the generator and predgen share."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone, Memory
from predgen.backbones.base import compact
from predgen.codec.codec import Codec, EncodedTargets
from predgen.codec.kinds import fits
from predgen.codec.trie import Trie
from predgen.measures.base import distribution_of_samples
from predgen.measures.distributions import PredictiveDistribution
from predgen.measures.kinds import measure_of
from predgen.methods.base import Method
from predgen.methods.heads import Scale
from predgen.methods.losses import TokenLoss, expected_value_loss, token_accuracy
from predgen.targets.record import field_values, fields_of
from predgen.writing.decoding import Decoded, beam, greedy, sample, write_paths
from predgen.writing.sampling import scores_after
from predgen.writing.scoring import TrieScores, best_first, score_all, score_likeliest

Decoding = Literal["auto", "greedy", "trie", "beam", "free"]
# `auto` scores all targets at once where that writes at most so many tokens for each decision of greedy writing: a
# write of 60 tokens cost as much as three writes of one (26M parameters, prompts of 128 tokens).
NODES_PER_DECISION = 20
# Targets that are drawn for each row where there are too many to score them all: the standard error of a probability is
# at most 0.5 / √256 = 0.03.
NUM_SAMPLES = 256
# Records whose tree has more nodes than this are drawn; the mask of a tree grows with the square of its nodes.
MAX_RECORD_NODES = 1_000


@dataclass(frozen=True)
class WrittenTarget:
    """What was written along the automaton.

    Attributes:
        decoded: the tokens.
        values: each row's value.
        texts: each row's text.
        field_texts: the text of each field, row by row.
        memories: what was read and written before each field, as far as it was asked for.
        scores: of each of a field's targets after what was written before it; None where not asked for.
    """

    decoded: Decoded
    values: list[Any]
    texts: list[str]
    field_texts: list[list[str]]
    memories: list[Memory]
    scores: list[TrieScores | None]


class Writer(Method):
    """A method that writes: what generator and predgen share.

    Args:
        backbone: the language model.
        codec: the target automaton.
        scales: what the training values say, for each field.
        full_vocabulary: train the softmax over the whole vocabulary (the paper's form) instead of over the tokens
            that the automaton allows.
        token_loss: what L_W is.
        decoding: how the target is chosen: `greedy`, token by token along the automaton; `trie`, the likeliest of all
            targets, field by field; `beam`, the likeliest that beam search finds; `auto`, trie or greedy by their cost.
            `free` writes along the automaton too, but for `Generator`'s answers.
        beam_width: the prefixes that beam search keeps.
        estimates: the Writer's answer for each field: the written `text`; of a number's distribution the `mode`, the
            `mean`, the `median`, or a quantile such as `0.9`; the labels of a set whose probability reaches their
            `thresholds`. All texts if not given.
        trie_mass: the share of the probability that scoring all targets must know target by target; see
            `predgen.writing.scoring.score_likeliest`.

    Attributes:
        decoding: as above, `auto` decided.
        reads_greedily: whether `auto` is greedy whatever the cost.
        tries: all targets of a field, to be scored in one write, by the field's place; fields with too many have none.
    """

    writes = True
    reads_greedily = False

    def __init__(
        self,
        backbone: Backbone,
        codec: Codec,
        scales: Sequence[Scale],
        *,
        full_vocabulary: bool = False,
        token_loss: TokenLoss | None = None,
        decoding: Decoding = "auto",
        beam_width: int = 4,
        estimates: Sequence[str] | None = None,
        trie_mass: float = 1.0,
    ) -> None:
        super().__init__(backbone, codec, scales)
        self.trie_mass = trie_mass
        self.full_vocabulary = full_vocabulary
        self.token_loss = token_loss or TokenLoss()
        self.tries = nn.ModuleDict(
            {
                str(place): Trie(part, full=full_vocabulary)
                for place, part in enumerate(codec.parts)
                if fits(part.target)
            }
        )
        if decoding == "auto":
            num_nodes = sum(trie.num_nodes for trie in map(self.trie_of, range(len(self.fields))) if trie is not None)
            cheap = num_nodes <= NODES_PER_DECISION * codec.num_decisions and len(self.tries) == len(self.fields)
            decoding = "trie" if cheap and not self.reads_greedily else "greedy"
        self.decoding = decoding
        self.beam_width = beam_width
        free = decoding == "free"
        self.estimates = ["text"] * len(self.fields) if estimates is None or free else list(estimates)
        self._whole: Trie | None = None

    def trie_of(self, place: int) -> Trie | None:
        """Returns all targets of a field as a tree; None where there are too many."""
        key = str(place)
        trie = self.tries[key] if key in self.tries else None  # noqa: SIM401 - a ModuleDict has no get
        assert trie is None or isinstance(trie, Trie)
        return trie

    @property
    def trie(self) -> Trie | None:
        """The trie of a target that is no record."""
        return self.trie_of(0)

    def read(self, prompt: Int[Tensor, "batch prompt"], prompt_mask: Bool[Tensor, "batch prompt"]) -> Memory:
        """Returns the memory of prompts, with the logits of the target's own symbols alone where these are enough."""
        return self.backbone.read(prompt, prompt_mask, None if self.full_vocabulary else self.codec.symbols)

    def writer_loss(
        self, memory: Memory, logits: Float[Tensor, "batch target kept"], gold: EncodedTargets, truth: Tensor
    ) -> Float[Tensor, ""]:
        """Returns L_W, from the logits at H[0..m-1] or from the scores of all numbers.

        Args:
            memory: what was read.
            logits: of the memory's vocabulary.
            gold: the gold targets.
            truth: as in `forward`.
        """
        if self.token_loss.name == "expected_value":
            assert self.trie is not None  # `build_method` refuses numbers with too many values
            scores = score_all(self.backbone, memory, self.trie)
            scale = self.fields[0].scale
            numbers = self.trie.numbers.log10() if self.fields[0].field.logarithmic else self.trie.numbers
            return expected_value_loss(scores, numbers, truth.squeeze(-1), mean=scale.mean, deviation=scale.deviation)
        scores = self.codec.log_probabilities(
            logits, gold.states, full=self.full_vocabulary, vocabulary=memory.vocabulary
        )
        counted = gold.mask if self.full_vocabulary else self.decided(gold)
        allowed = self.codec.allowed(gold.states)
        return self.token_loss(scores, gold.symbols, counted, allowed, self.codec.digits)

    def decided(self, gold: EncodedTargets) -> Bool[Tensor, "batch target"]:
        """Returns the gold positions that had a choice."""
        return gold.mask & ~self.codec.forced(gold.states)

    @torch.no_grad()
    def exposure(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        symbols: Int[Tensor, "batch target"],
        symbol_mask: Bool[Tensor, "batch target"],
        states: Int[Tensor, "batch target"],
        truth: Tensor,
    ) -> dict[str, Float[Tensor, ""]]:
        """Returns how the method does after gold prefixes and after its own; the arguments are those of `forward`.

        `writer_accuracy_gold` and `writer_accuracy_own` are shares of the gold tokens that had a choice, averaged over
        each example's tokens, then over examples. A method with a Director adds its loss on both.
        """
        gold = EncodedTargets(symbols, symbol_mask, states)
        memory = self.read(prompt, prompt_mask)
        decoded = self.write_target(memory, with_states=True).decoded
        scores = scores_after(self.backbone, memory, self.codec, gold, symbols, full=self.full_vocabulary)
        decided = self.decided(gold)
        length = symbols.shape[1]
        own = nn.functional.pad(decoded.symbols.masked_fill(~decoded.mask, -1), (0, length), value=-1)[:, :length]
        return {
            "writer_accuracy_gold": token_accuracy(scores.argmax(dim=-1), symbols, decided),
            "writer_accuracy_own": token_accuracy(own, symbols, decided),
            **self.director_exposure(memory, gold, decoded, truth),
        }

    def director_exposure(
        self, memory: Memory, gold: EncodedTargets, decoded: Decoded, truth: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """Returns the Director's loss on gold tokens and on the decoded ones; nothing for a method without one."""
        return {}

    def write_target(self, memory: Memory, *, with_states: bool, scored: Collection[int] = ()) -> WrittenTarget:
        """Returns what is written along the automaton.

        Args:
            memory: what was read.
            with_states: also return H[1..m].
            scored: the places of the fields whose targets are all to be scored, where they have a trie.
        """
        backbone, codec, full = self.backbone, self.codec, self.full_vocabulary
        scores: list[TrieScores | None] = [None] * len(self.fields)
        memories = [memory]
        last = max(scored, default=0)
        if self.decoding == "trie":
            pieces = []
            for place in range(len(self.fields)):
                trie = self.trie_of(place)
                assert trie is not None  # `build_method` refuses fields with too many values
                own = score_likeliest(backbone, memories[place], trie, self.trie_mass)
                best, scores[place] = own.best(), own
                symbols, mask = compact(codec.to_whole(place, trie.paths[best]), trie.path_mask[best])
                pieces.append((symbols, mask))
                if place + 1 < len(self.fields):
                    memories.append(backbone.write(memories[place], codec.symbols[symbols], mask).memory)
            symbols, mask = compact(*(torch.cat(parts, dim=1) for parts in zip(*pieces, strict=True)))
            decoded = write_paths(backbone, memory, codec, symbols, mask, with_states=with_states)
        else:
            if self.decoding == "beam":
                decoded = beam(backbone, memory, codec, width=self.beam_width, with_states=with_states, full=full)
            else:
                decoded = greedy(backbone, memory, codec, with_states=with_states, full=full)
            fields = codec.fields_along(decoded.symbols, decoded.mask) if last else None
            for place in range(last + 1 if scored else 0):
                trie = self.trie_of(place)
                if place in scored and trie is not None:
                    scores[place] = score_likeliest(backbone, memories[place], trie, self.trie_mass)
                if place < last and fields is not None:
                    symbols, mask = compact(decoded.symbols, decoded.mask & (fields == place))
                    memories.append(backbone.write(memories[place], codec.symbols[symbols], mask).memory)
        paths = decoded.paths()
        answers = [codec.value_and_text(path) for path in paths]
        parts = codec.parts
        by_field = [
            [part.value_and_text(span)[1] for span in spans]
            for part, spans in zip(parts, zip(*map(codec.spans, paths), strict=True), strict=True)
        ]
        return WrittenTarget(
            decoded, [value for value, _ in answers], [text for _, text in answers], by_field, memories, scores
        )

    def belief(self, place: int, memory: Memory, scores: TrieScores | None = None) -> PredictiveDistribution:
        """Returns the Writer's probabilities of a field, after what was written before it.

        Exact where the field has a trie that is written whole; else of the likeliest targets, or from samples of sets.

        Args:
            place: the field's.
            memory: what was read, and written before the field.
            scores: of all its targets, where they are known already.
        """
        part, trie = self.codec.parts[place], self.trie_of(place)
        if trie is None:
            if self.fields[place].field.numeric:
                return PredictiveDistribution(best_first(self.backbone, memory, part, full=self.full_vocabulary))
            return distribution_of_samples(
                measure_of(self.fields[place].field), self._samples(memory, part), self.device
            )
        scores = score_likeliest(self.backbone, memory, trie, self.trie_mass) if scores is None else scores
        return self.fields[place].distribution(trie, scores.log_probabilities, scores.covered)

    @property
    def marginals_are_exact(self) -> bool:
        """Whether a record's values are few enough to score them all; else its marginals are drawn."""
        if not fits(self.target):
            return False
        nodes, before = 0, 1
        for place in range(len(self.fields)):
            trie = self.trie_of(place)
            assert trie is not None  # a record fits only if its fields do
            num_values = len(trie.values)
            # The whole of a field's tree stands below each value of the fields before it.
            nodes += before * (trie.num_nodes + (num_values if place + 1 < len(self.fields) else 0))
            before *= num_values
            if nodes > MAX_RECORD_NODES:
                return False
        return True

    def marginals(self, memory: Memory) -> list[PredictiveDistribution]:
        """Returns the Writer's probabilities of each field, whatever the fields before it say.

        Args:
            memory: what was read.
        """
        if len(self.fields) == 1:
            return [self.belief(0, memory)]
        fields = fields_of(self.target)
        if self.marginals_are_exact:
            if self._whole is None:
                self._whole = Trie(self.codec, full=self.full_vocabulary).to(self.device)
            probabilities = score_all(self.backbone, memory, self._whole).double().softmax(dim=-1)
            every = self._whole.values
            return [
                measure_of(field).distribution_of_values(field_values(self.target, every, name), probabilities)
                for name, field in fields.items()
            ]
        rows = self._samples(memory, self.codec)
        return [
            distribution_of_samples(
                measure_of(field), [field_values(self.target, row, name) for row in rows], self.device
            )
            for name, field in fields.items()
        ]

    def _samples(self, memory: Memory, codec: Codec) -> list[list[Any]]:
        """Returns values that are drawn for each row from the Writer's distribution, the same in every call."""
        paths = sample(self.backbone, memory, codec, number=NUM_SAMPLES, full=self.full_vocabulary)
        return [[codec.value_of(path) for path in row] for row in paths]
