"""Whole targets, written for each row: one function for each decoding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from predgen.backbones import Memory
from predgen.backbones.base import compact
from predgen.codec.trie import Trie
from predgen.names import DECODINGS
from predgen.writing.decoding import Decoded, beam, greedy, write_paths
from predgen.writing.scoring import TrieScores, score_likeliest
from predgen.writing.symbols import SymbolModel


@dataclass(frozen=True)
class Decoding:
    """How targets are chosen, and how much of their probability is scored target by target.

    Attributes:
        name: one of `predgen.names.DECODINGS` but `auto`. `free` writes greedily here: only a generator's answers are
            written without the automaton.
        beam_width: the prefixes that beam search keeps.
        trie_mass: the share of the probability that scoring all targets must know target by target; see
            `predgen.writing.scoring.score_likeliest`.
        held: what each row of the one batch writes, whatever is likelier: the symbols of paths, and which of them are
            not padding. So answers are smooth in the prompt's embeddings, as their gradients need it.
    """

    name: str = "greedy"
    beam_width: int = 4
    trie_mass: float = 1.0
    held: tuple[Int[Tensor, "batch target"], Bool[Tensor, "batch target"]] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Chosen:
    """The paths that a decoding chose.

    Attributes:
        decoded: the tokens.
        memories: what was read and written before each field, of the first field at least.
        scores: of each field's targets after what was written before it; None where the decoding needs none.
    """

    decoded: Decoded
    memories: list[Memory]
    scores: list[TrieScores | None]


@dataclass(frozen=True)
class WrittenTarget:
    """What was written along the automaton.

    Attributes:
        chosen: the paths, with their memories and scores.
        values: each row's value; None where it was chosen by probabilities that are no numbers.
        texts: each row's text.
        field_texts: the text of each field, row by row.
    """

    chosen: Chosen
    values: list[Any]
    texts: list[str]
    field_texts: list[list[str]]

    @property
    def decoded(self) -> Decoded:
        """The tokens."""
        return self.chosen.decoded


Choose = Callable[[SymbolModel, Sequence[Trie | None], Memory, Decoding, bool], Chosen]


def choose_greedily(
    symbols: SymbolModel, tries: Sequence[Trie | None], memory: Memory, decoding: Decoding, with_states: bool
) -> Chosen:
    """Returns the targets whose tokens are the likeliest one by one; it takes the arguments of `write_target`."""
    return Chosen(greedy(symbols, memory, with_states=with_states), [memory], [None] * len(tries))


def choose_by_beam(
    symbols: SymbolModel, tries: Sequence[Trie | None], memory: Memory, decoding: Decoding, with_states: bool
) -> Chosen:
    """Returns the likeliest targets that beam search finds; it takes the arguments of `write_target`."""
    decoded = beam(symbols, memory, width=decoding.beam_width, with_states=with_states)
    return Chosen(decoded, [memory], [None] * len(tries))


def choose_likeliest(
    symbols: SymbolModel, tries: Sequence[Trie | None], memory: Memory, decoding: Decoding, with_states: bool
) -> Chosen:
    """Returns the likeliest of all targets, field by field; it takes the arguments of `write_target`."""
    memories, scores = [memory], list[TrieScores | None]()
    paths, masks = [], []
    finite = torch.ones_like(memory.mask[:, 0])
    for field_index, trie in enumerate(tries):
        assert trie is not None  # `build_method` refuses fields with too many values
        scored = score_likeliest(symbols.backbone, memories[-1], trie, decoding.trie_mass)
        best = scored.best()
        path, mask = compact(symbols.codec.to_whole(field_index, trie.paths[best]), trie.path_mask[best])
        scores.append(scored)
        finite = finite & ~scored.log_probabilities.isnan().any(dim=1)
        paths.append(path)
        masks.append(mask)
        if field_index + 1 < len(tries):
            memories.append(symbols.write(memories[-1], path, mask).memory)
    path, mask = compact(torch.cat(paths, dim=1), torch.cat(masks, dim=1))
    return Chosen(write_paths(symbols, memory, path, mask, finite, with_states=with_states), memories, scores)


def choose_held(
    symbols: SymbolModel, tries: Sequence[Trie | None], memory: Memory, decoding: Decoding, with_states: bool
) -> Chosen:
    """Returns the targets that the decoding holds; it takes the arguments of `write_target`."""
    assert decoding.held is not None
    path, mask = decoding.held
    finite = torch.ones_like(memory.mask[:, 0])
    decoded = write_paths(symbols, memory, path, mask, finite, with_states=with_states)
    return Chosen(decoded, [memory], [None] * len(tries))


def write_target(
    symbols: SymbolModel, tries: Sequence[Trie | None], memory: Memory, decoding: Decoding, *, with_states: bool
) -> WrittenTarget:
    """Returns what is written along the automaton.

    Args:
        symbols: the model of symbols.
        tries: all targets of each field; None for a field with too many.
        memory: what was read.
        decoding: how the targets are chosen.
        with_states: also return H[1..m].
    """
    codec = symbols.codec
    choose: Choose = DECODINGS.load(decoding.name) if decoding.held is None else choose_held
    chosen = choose(symbols, tries, memory, decoding, with_states)
    paths = chosen.decoded.paths()
    answers = [codec.value_and_text(path) for path in paths]
    field_texts = [
        [field.value_and_text(span)[1] for span in spans]
        for field, spans in zip(codec.field_codecs, zip(*map(codec.spans, paths), strict=True), strict=True)
    ]
    finite = chosen.decoded.finite.tolist()
    values = [value if is_finite else None for (value, _), is_finite in zip(answers, finite, strict=True)]
    return WrittenTarget(chosen, values, [text for _, text in answers], field_texts)


def memories_before(symbols: SymbolModel, chosen: Chosen, last: int) -> list[Memory]:
    """Returns what was read and written before each field.

    Args:
        symbols: the model of symbols.
        chosen: what was written.
        last: the index of the last field that is asked for.
    """
    memories, decoded = list(chosen.memories), chosen.decoded
    if len(memories) > last:
        return memories
    fields = symbols.codec.fields_along(decoded.symbols, decoded.mask)
    for field_index in range(len(memories) - 1, last):
        path, mask = compact(decoded.symbols, decoded.mask & (fields == field_index))
        memories.append(symbols.write(memories[-1], path, mask).memory)
    return memories
