"""Fine-tuning that writes the target as text and reads the text: the Writer alone."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.codec.codec import EncodedTargets
from predgen.measures.distributions import PredictiveDistribution
from predgen.methods.answers import Answers
from predgen.methods.writer import Writer
from predgen.targets.record import field_values, fields_of
from predgen.writing.decoding import greedy_free
from predgen.writing.sampling import Draws

# How many tokens more than the longest target free writing may take before it is stopped.
FREE_MARGIN_TOKENS = 8


class Generator(Writer):
    """Writes the target and reads it.

    Args:
        backbone: the language model.
        codec: the target automaton.
        scales: unused; the text is the value.
        full_vocabulary: as in `Writer`.
        token_loss: as in `Writer`.
        decoding: as in `Writer`; along the automaton every answer is valid. `free` is the paper's form, and has the
            text alone for a number.
        beam_width: as in `Writer`.
        estimates: as in `Writer`.
        trie_mass: as in `Writer`.
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
        memory = self.read(prompt, prompt_mask)
        logits = memory.logits.unsqueeze(1)
        if symbols.shape[1] > 1:
            logits = self.backbone.write(memory, self.codec.symbols[symbols[:, :-1]], symbol_mask[:, :-1]).logits
        loss = self.writer_loss(memory, logits, gold, truth)
        return {"loss": loss, "writer_loss": loss}

    @property
    def max_written(self) -> int:
        """The most tokens that are written after a prompt; freely written texts may be longer than any target."""
        return self.codec.max_length + (FREE_MARGIN_TOKENS if self.decoding == "free" else 0)

    @torch.no_grad()
    def answer(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        *,
        probabilities: bool = False,
        marginal: bool = False,
    ) -> Answers:
        """Returns the values of the written texts, or the estimates; a text that is no value gives None."""
        free = self.decoding == "free"
        memory = self.backbone.read(prompt, prompt_mask) if free else self.read(prompt, prompt_mask)
        places = [place for place, name in enumerate(self.estimates) if probabilities or marginal or name != "text"]
        beliefs: dict[int, PredictiveDistribution] = {}
        values: list[Any]
        texts: list[str]
        scores: list[Any] = [None] * len(self.fields)
        if free:
            rows = greedy_free(self.backbone, memory, self.backbone.end_id, self.max_written)
            found = [self._read_freely(row) for row in rows]
            values, texts = [value for value, _ in found], [text for _, text in found]
            field_texts: list[list[Any]] = [[None] * len(rows) if len(self.fields) > 1 else texts] * len(self.fields)
            marginal = marginal or len(self.fields) > 1  # what was written before a field may be no value
            memories = [memory]
        else:
            written = self.write_target(memory, with_states=False, scored=() if marginal else places)
            values, texts, field_texts = written.values, written.texts, list(written.field_texts)
            memories, scores = written.memories, written.scores
        if marginal and places:
            beliefs = dict(enumerate(self.marginals(memory)))
        else:
            beliefs = {place: self.belief(place, memories[place], scores[place]) for place in places}
        answers = []
        for place, (name, one) in enumerate(zip(fields_of(self.target), self.fields, strict=True)):
            own = field_values(self.target, values, name)
            belief, estimate = beliefs.get(place), self.estimates[place]
            if belief is not None and belief.distribution is not None:
                if estimate != "text" or (marginal and not free):
                    own = belief.distribution.estimate("mode" if estimate == "text" else estimate).tolist()
                answer = Answers(own, field_texts[place])
                answers.append(answer.with_distribution(belief.distribution, spread=probabilities))
            elif belief is not None and belief.probabilities is not None:
                if estimate == "thresholds" or (marginal and not free):
                    own = one.values(belief.probabilities, self.thresholds[place])
                mass = None
                if self.full_vocabulary and scores[place] is not None:
                    mass = scores[place].log_probabilities.double().exp().sum(dim=-1).cpu()
                kept = belief.probabilities.cpu() if probabilities else None
                answers.append(Answers(own, field_texts[place], kept, mass if probabilities else None))
            else:
                answers.append(Answers(own, field_texts[place]))
        return Answers.of_record(self.target, answers, list(texts))

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
