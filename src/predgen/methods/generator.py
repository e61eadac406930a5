"""Fine-tuning that writes the target as text and reads the text: the Writer alone."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones import Memory
from predgen.measures.distributions import PredictiveDistribution
from predgen.methods.answering import Answering, FieldSources, Sources, choices_of
from predgen.methods.base import Method
from predgen.methods.batch import Batch
from predgen.methods.writer import ScoredFields, Writer
from predgen.targets.record import field_values
from predgen.writing.decoding import greedy_free
from predgen.writing.sampling import Draws
from predgen.writing.scoring import read_and_score_tree
from predgen.writing.targets import Decoding

# How many tokens more than the longest target free writing may take before it is stopped.
FREE_MARGIN_TOKENS = 8


class Generator(Method):
    """Writes the target and reads it.

    Args:
        writer: what writes. Along the automaton every answer is valid; the decoding `free` is the paper's form, and has
            the text alone for a number.
    """

    writes = True
    free_probabilities = False  # every target is scored

    def __init__(self, writer: Writer) -> None:
        super().__init__(writer.symbols.backbone, writer.symbols.codec, writer.fields)
        self.writer = writer

    def cheapest_decoding(self) -> str:
        """Returns the Writer's."""
        return self.writer.cheapest_decoding()

    def max_written(self, decoding: Decoding) -> int:
        """Returns the most tokens that are written after a prompt; free texts may be longer than any target."""
        return self.codec.max_length + (FREE_MARGIN_TOKENS if decoding.name == "free" else 0)

    def forward(self, batch: Batch, draws: Draws | None = None) -> dict[str, Float[Tensor, ""]]:
        """Returns L_W as `loss` and `writer_loss`; the gold prefix is always fed."""
        gold, symbols, trie = batch.gold, self.writer.symbols, self.writer.only_trie
        if trie is not None and self.writer.learns_from_all:
            _, tree = read_and_score_tree(symbols, batch.prompt, batch.prompt_mask, trie)
            loss = batch.mean(self.writer.loss_of_tree(tree, gold, batch.truth))
            return {"loss": loss, "writer_loss": loss}
        fed = gold.symbols[:, :-1], gold.mask[:, :-1]
        memory, logits = symbols.read_and_write(batch.prompt, batch.prompt_mask, *fed)
        loss = batch.mean(self.writer.loss(memory, logits, gold, batch.truth))
        return {"loss": loss, "writer_loss": loss}

    @torch.no_grad()
    def exposure(self, batch: Batch, decoding: Decoding) -> dict[str, Float[Tensor, ""]]:
        """Returns the Writer's accuracy after gold prefixes and after its own."""
        trie = self.writer.only_trie
        if trie is not None and decoding.name == "trie":
            _, tree = read_and_score_tree(self.writer.symbols, batch.prompt, batch.prompt_mask, trie)
            return self.writer.accuracies_of_tree(tree, batch.gold)
        memory = self.writer.symbols.read(batch.prompt, batch.prompt_mask)
        written = self.writer.write(memory, decoding, with_states=True)
        return self.writer.accuracies(memory, batch.gold, written.decoded)

    def sources(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        answerings: Sequence[Answering],
        *,
        probabilities: bool,
        marginal: bool,
    ) -> Sources:
        """Returns the written texts, and the Writer's predictive distributions where the answers need them."""
        wanted = [
            field_index
            for field_index in range(len(self.fields))
            if probabilities
            or marginal
            or any(choice.estimate != "text" for choice in choices_of(answerings, field_index))
        ]
        decoding = answerings[0].decoding
        if decoding.name == "free":
            return self._written_freely(prompt, prompt_mask, wanted, decoding)
        memory = self.writer.symbols.read(prompt, prompt_mask)
        written = self.writer.write(memory, decoding, with_states=False)
        scored = self.writer.score(written, () if marginal else wanted, decoding.trie_mass)
        predictive = self._predictive(memory, scored, wanted, decoding.trie_mass, marginal=marginal)
        fields = []
        for field_index, name in enumerate(self.target.fields):
            of_field, mass = predictive.get(field_index), None
            scores = scored.scores[field_index]
            if self.writer.symbols.full and scores is not None and of_field is not None:
                has_table = of_field.probabilities is not None
                mass = scores.log_probabilities.double().exp().sum(dim=-1).cpu() if has_table else None
            fields.append(
                FieldSources(
                    field_values(self.target, written.values, name),
                    list(written.field_texts[field_index]),
                    predictive=of_field,
                    valid_mass=mass,
                    text_decides=not marginal,
                )
            )
        return Sources(fields, list(written.texts))

    def _written_freely(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        wanted: Sequence[int],
        decoding: Decoding,
    ) -> Sources:
        """Returns the texts of free writing; the predictive distributions are those along the automaton."""
        memory = self.backbone.read(prompt, prompt_mask)
        rows, finite = greedy_free(self.backbone, memory, self.backbone.end_id, self.max_written(decoding))
        answers = [self._read_freely(row) for row in rows]
        texts = [text for _, text in answers]
        values = [value if is_finite else None for (value, _), is_finite in zip(answers, finite.tolist(), strict=True)]
        several = len(self.fields) > 1
        # What was written before a field may be no value: distributions hold whatever it is.
        scored = ScoredFields([memory], [None])
        predictive = self._predictive(memory, scored, wanted, decoding.trie_mass, marginal=several)
        field_texts: list[str | None] = [None] * len(rows) if several else list(texts)
        fields = [
            FieldSources(
                field_values(self.target, values, name), list(field_texts), predictive=predictive.get(field_index)
            )
            for field_index, name in enumerate(self.target.fields)
        ]
        return Sources(fields, list(texts))

    def _predictive(
        self, memory: Memory, scored: ScoredFields, wanted: Sequence[int], trie_mass: float, *, marginal: bool
    ) -> dict[int, PredictiveDistribution]:
        """Returns the Writer's predictive distributions of the wanted fields; of all if they are marginal."""
        if marginal and wanted:
            return dict(enumerate(self.writer.marginals(memory, trie_mass)))
        return {index: self.writer.predictive(index, scored, trie_mass) for index in wanted}

    def _read_freely(self, tokens: list[int]) -> tuple[Any, str]:
        """Returns the value and the text of tokens decoded without the automaton; None for a text that is no value.

        A target's own path is read as such: not every tokenizer gives its text back (some join tokens with spaces,
        some write no capitals).
        """
        symbol_of_token = {token: symbol for symbol, token in enumerate(self.codec.symbols.tolist())}
        answer = self.codec.read([symbol_of_token.get(token, -1) for token in tokens])
        if answer is not None:
            return answer
        text = self.backbone.text_of(tokens)
        return self.target.from_text(text), text
