"""Fine-tuning that writes the target as text and reads the text: the Writer alone."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone, Memory
from predgen.codec import Codec, EncodedTargets
from predgen.decoding import Decoded, beam, greedy, greedy_free, write_paths
from predgen.distributions import NumberDistribution
from predgen.losses import TokenLoss, expected_value_loss, token_accuracy
from predgen.methods.base import Answers, Method, Scale
from predgen.methods.sampling import Draws, scores_after
from predgen.scoring import best_first, score_all
from predgen.targets import Number
from predgen.trie import Trie, fits

Decoding = Literal["auto", "greedy", "trie", "beam", "free"]
# `auto` scores all targets at once where that writes at most so many tokens for each decision of greedy writing: a
# write of 60 tokens cost as much as three writes of one (26M parameters, prompts of 128 tokens).
NODES_PER_DECISION = 20
# How many tokens more than the longest target free writing may take before it is stopped.
FREE_MARGIN_TOKENS = 8


class Writer(Method):
    """A method that writes: what generator and predgen share.

    Args:
        backbone: the language model.
        codec: the target automaton.
        scale: the standardization of numbers.
        full_vocabulary: train the softmax over the whole vocabulary (the paper's form) instead of over the tokens
            that the automaton allows.
        token_loss: what L_W is.
        decoding: how the target is chosen: `greedy`, token by token along the automaton; `trie`, the likeliest of all
            targets; `beam`, the likeliest that beam search finds; `auto`, trie or greedy by their cost. `free` writes
            along the automaton too, but for `Generator`'s answers.
        beam_width: the prefixes that beam search keeps.
        estimate: the Writer's answer for a number: the written `text`, or of its distribution the `mode`, the `mean`,
            the `median`, or a quantile such as `0.9`.

    Attributes:
        decoding: as above, `auto` decided.
        reads_greedily: whether `auto` is greedy whatever the cost.
        trie: every target, to be scored in one write; None for a number with too many values.
    """

    writes = True
    reads_greedily = False

    def __init__(
        self,
        backbone: Backbone,
        codec: Codec,
        scale: Scale,
        *,
        full_vocabulary: bool = False,
        token_loss: TokenLoss | None = None,
        decoding: Decoding = "auto",
        beam_width: int = 4,
        estimate: str = "text",
    ) -> None:
        super().__init__(backbone, codec, scale)
        self.full_vocabulary = full_vocabulary
        self.token_loss = token_loss or TokenLoss()
        self.trie = Trie(codec, full=full_vocabulary) if fits(codec.target) else None
        if decoding == "auto":
            cheap = (
                not self.reads_greedily
                and self.trie is not None
                and self.trie.num_nodes <= NODES_PER_DECISION * codec.num_decisions
            )
            decoding = "trie" if cheap else "greedy"
        self.decoding = decoding
        self.beam_width = beam_width
        self.estimate = "text" if decoding == "free" or not isinstance(codec.target, Number) else estimate

    def writer_loss(
        self, memory: Memory, logits: Float[Tensor, "batch target vocab"], gold: EncodedTargets, truth: Tensor
    ) -> Float[Tensor, ""]:
        """Returns L_W, from the logits at H[0..m-1] or from the scores of all numbers.

        Args:
            memory: what was read.
            logits: over the whole vocabulary.
            gold: the gold targets.
            truth: as in `forward`.
        """
        if self.token_loss.name == "expected_value":
            assert self.trie is not None  # `build_method` refuses numbers with too many values
            scores = score_all(self.backbone, memory, self.trie)
            scale = self.scale
            return expected_value_loss(scores, self.trie.numbers, truth, mean=scale.mean, deviation=scale.deviation)
        scores = self.codec.log_probabilities(logits, gold.states, full=self.full_vocabulary)
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
        memory = self.backbone.read(prompt, prompt_mask)
        decoded, _, _ = self.write_target(memory, with_states=True)
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

    def write_target(
        self, memory: Memory, *, with_states: bool, scores: Float[Tensor, "batch leaf"] | None = None
    ) -> tuple[Decoded, list[Any], list[str]]:
        """Returns what is written along the automaton, with each row's value and text.

        Args:
            memory: what was read.
            with_states: also return H[1..m].
            scores: of all targets, where they are known already.
        """
        backbone, codec, full = self.backbone, self.codec, self.full_vocabulary
        if self.decoding == "trie":
            assert self.trie is not None  # `build_method` refuses numbers with too many values
            best = (score_all(backbone, memory, self.trie) if scores is None else scores).argmax(dim=1)
            symbols, mask = self.trie.paths[best], self.trie.path_mask[best]
            length = int(mask.sum(dim=1).max())
            decoded = write_paths(
                backbone, memory, codec, symbols[:, :length], mask[:, :length], with_states=with_states
            )
        elif self.decoding == "beam":
            decoded = beam(backbone, memory, codec, width=self.beam_width, with_states=with_states, full=full)
        else:
            decoded = greedy(backbone, memory, codec, with_states=with_states, full=full)
        answers = [self.codec.read(path) for path in decoded.paths()]
        return decoded, [answer[0] for answer in answers if answer], [answer[1] for answer in answers if answer]

    def number_distribution(
        self, memory: Memory, scores: Float[Tensor, "batch leaf"] | None = None
    ) -> NumberDistribution:
        """Returns the Writer's probabilities of numbers; of the likeliest ones where there are too many.

        Args:
            memory: what was read.
            scores: of all targets, where they are known already.
        """
        if self.trie is None:
            return best_first(self.backbone, memory, self.codec, full=self.full_vocabulary)
        scores = score_all(self.backbone, memory, self.trie) if scores is None else scores
        return NumberDistribution.of_all(scores, self.trie.numbers)


class Generator(Writer):
    """Writes the target and reads it.

    Args:
        backbone: the language model.
        codec: the target automaton.
        scale: unused; the text is the value.
        full_vocabulary: as in `Writer`.
        token_loss: as in `Writer`.
        decoding: as in `Writer`; along the automaton every answer is valid. `free` is the paper's form, and has the
            text alone for a number.
        beam_width: as in `Writer`.
        estimate: as in `Writer`.
    """

    free_probabilities = False  # every target is scored

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
        """Returns L_W as `loss` and `writer_loss`; the gold prefix is always fed."""
        gold = EncodedTargets(symbols, symbol_mask, states)
        memory = self.backbone.read(prompt, prompt_mask)
        logits = memory.logits.unsqueeze(1)
        if symbols.shape[1] > 1:
            logits = self.backbone.write(memory, self.codec.symbols[symbols[:, :-1]], symbol_mask[:, :-1]).logits
        loss = self.writer_loss(memory, logits, gold, truth)
        return {"loss": loss, "writer_loss": loss}

    @torch.no_grad()
    def answer(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        *,
        probabilities: bool = False,
    ) -> Answers:
        """Returns the values of the written texts, or the point estimates; a text that is no value gives None."""
        memory = self.backbone.read(prompt, prompt_mask)
        scores = None
        if self.trie is not None and (probabilities or self.decoding == "trie" or self.estimate != "text"):
            scores = score_all(self.backbone, memory, self.trie)
        written: list[str | None]
        values: list[Any]
        if self.decoding == "free":
            limit = self.codec.max_length + FREE_MARGIN_TOKENS
            rows = greedy_free(self.backbone, memory, self.backbone.end_id, limit)
            answers = [self._read_freely(row) for row in rows]
            values, written = [value for value, _ in answers], [text for _, text in answers]
        else:
            _, values, texts = self.write_target(memory, with_states=False, scores=scores)
            written = list(texts)
        if isinstance(self.target, Number):
            distribution = None
            if probabilities or self.estimate != "text":
                distribution = self.number_distribution(memory, scores)
            if distribution is not None and self.estimate != "text":
                values = distribution.estimate(self.estimate).tolist()
            return Answers(values, written).with_distribution(distribution, spread=probabilities)
        if not probabilities or scores is None:
            return Answers(values, written)
        scores = scores.double()
        mass = scores.exp().sum(dim=-1).cpu() if self.full_vocabulary else None
        return Answers(values, written, scores.softmax(dim=-1).cpu(), mass)

    def _read_freely(self, tokens: list[int]) -> tuple[Any, str]:
        """Returns the value and the text of freely written tokens; None for a text that is no value.

        A target's own path is read as such: not every tokenizer gives its text back (some join tokens with spaces,
        some write no capitals).
        """
        symbol_of_token = {token: symbol for symbol, token in enumerate(self.codec.symbols.tolist())}
        answer = self.codec.read([symbol_of_token.get(token, -1) for token in tokens])
        if answer is not None:
            return answer
        text = self.backbone.text_of(tokens)
        return self.target.from_text(text), text
