"""Fine-tuning that writes the target as text and reads the text: the Writer alone."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone, Memory
from predgen.codec import Codec, EncodedTargets
from predgen.decoding import Decoded, greedy, greedy_free, score_all
from predgen.losses import TokenLoss, expected_value_loss, token_accuracy
from predgen.methods.base import Answers, Method, Scale
from predgen.methods.sampling import Draws, scores_after
from predgen.targets import Label
from predgen.trie import Trie, fits

Decoding = Literal["constrained", "free"]
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

    Attributes:
        trie: every target, to be scored in one write; None for a number with too many values.
    """

    writes = True

    def __init__(
        self,
        backbone: Backbone,
        codec: Codec,
        scale: Scale,
        *,
        full_vocabulary: bool = False,
        token_loss: TokenLoss | None = None,
    ) -> None:
        super().__init__(backbone, codec, scale)
        self.full_vocabulary = full_vocabulary
        self.token_loss = token_loss or TokenLoss()
        self.trie = Trie(codec, full=full_vocabulary) if fits(codec) else None

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
        decoded, _, _ = self.write_constrained(memory, with_states=True)
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

    def write_constrained(self, memory: Memory, *, with_states: bool) -> tuple[Decoded, list[Any], list[str]]:
        """Returns what is written along the automaton, with each row's value and text."""
        decoded = greedy(self.backbone, memory, self.codec, with_states=with_states, full=self.full_vocabulary)
        answers = [self.codec.read(path) for path in decoded.paths()]
        return decoded, [answer[0] for answer in answers if answer], [answer[1] for answer in answers if answer]


class Generator(Writer):
    """Writes the target and reads it.

    Args:
        backbone: the language model.
        codec: the target automaton.
        scale: unused; the text is the value.
        full_vocabulary: as in `Writer`.
        token_loss: as in `Writer`.
        decoding: `constrained` follows the automaton, so that every answer is valid; `free` is the paper's form.
    """

    free_probabilities = False  # every label is scored

    def __init__(
        self,
        backbone: Backbone,
        codec: Codec,
        scale: Scale,
        *,
        full_vocabulary: bool = False,
        token_loss: TokenLoss | None = None,
        decoding: Decoding = "constrained",
    ) -> None:
        super().__init__(backbone, codec, scale, full_vocabulary=full_vocabulary, token_loss=token_loss)
        self.decoding = decoding

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
        """Returns the values of the written texts; a text that is no value gives None."""
        memory = self.backbone.read(prompt, prompt_mask)
        written: list[str | None]
        values: list[Any]
        if self.decoding == "free":
            limit = self.codec.max_length + FREE_MARGIN_TOKENS
            rows = greedy_free(self.backbone, memory, self.backbone.end_id, limit)
            answers = [self._read_freely(row) for row in rows]
            values, written = [value for value, _ in answers], [text for _, text in answers]
        else:
            _, values, texts = self.write_constrained(memory, with_states=False)
            written = list(texts)
        if not (probabilities and isinstance(self.target, Label)):
            return Answers(values, written)
        assert self.trie is not None  # labels have one
        scores = score_all(self.backbone, memory, self.trie).double()
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
