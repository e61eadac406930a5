"""A language model that speaks a target's alphabet: symbols in, log-probabilities of symbols out."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones import Backbone, Memory
from predgen.backbones.base import Written
from predgen.codec.codec import Codec


@dataclass(frozen=True)
class SymbolModel:
    """A backbone and a target automaton over its vocabulary.

    It holds no weights of its own: a method that registers both modules moves and saves them.

    Attributes:
        backbone: the language model.
        codec: the target automaton.
        full: take the softmax over the whole vocabulary (the paper's form) instead of over the symbols that the
            automaton allows.
    """

    backbone: Backbone
    codec: Codec
    full: bool = False

    @property
    def device(self) -> torch.device:
        """Where the automaton's tables are."""
        device: torch.device = self.codec.symbols.device
        return device

    @property
    def vocabulary(self) -> Int[Tensor, " kept"] | None:
        """The tokens whose logits are needed: the target's own; None for all."""
        return None if self.full else self.codec.symbols

    @property
    def fields(self) -> "tuple[SymbolModel, ...]":
        """The model of each field's own automaton; a target that is no record has one."""
        return tuple(SymbolModel(self.backbone, codec, self.full) for codec in self.codec.field_codecs)

    def read(self, prompt: Int[Tensor, "batch prompt"], prompt_mask: Bool[Tensor, "batch prompt"]) -> Memory:
        """Returns the memory of prompts, with the logits of the target's own symbols alone where these are enough."""
        return self.backbone.read(prompt, prompt_mask, self.vocabulary)

    def write(
        self, memory: Memory, symbols: Int[Tensor, "batch target"], mask: Bool[Tensor, "batch target"]
    ) -> Written:
        """Returns the states and logits of symbols written over a memory, which stays as it is.

        Args:
            memory: what was read, and written before.
            symbols: the codec's symbols, padded on the right.
            mask: which of them are not padding.
        """
        return self.backbone.write(memory, self.codec.symbols[symbols], mask)

    def read_and_write(
        self,
        prompt: Int[Tensor, "batch prompt"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        symbols: Int[Tensor, "batch target"],
        mask: Bool[Tensor, "batch target"],
    ) -> tuple[Memory, Float[Tensor, "batch step kept"]]:
        """Returns the memory of prompts, and the logits at H[0..target], from one forward where that is exact.

        Args:
            prompt: the prompts' tokens.
            prompt_mask: which of them are not padding.
            symbols: what follows each, as `write` takes it.
            mask: which of them are not padding.
        """
        length = symbols.shape[1]
        if length == 0 or not self.backbone.capabilities.masks_trees:
            memory = self.read(prompt, prompt_mask)
            logits = memory.logits.unsqueeze(1)
            return memory, logits if length == 0 else self.write(memory, symbols, mask).logits
        # Symbols one after another are a tree without branches; those of padding come last, where nobody sees them.
        depths = torch.arange(1, length + 1, device=prompt.device).expand(len(prompt), -1)
        ancestors = torch.ones(length, length, dtype=torch.bool, device=prompt.device).tril()
        memory, written = self.backbone.read_tree(
            (prompt, prompt_mask),
            self.codec.symbols[symbols],
            depths,
            ancestors.expand(len(prompt), -1, -1),
            self.vocabulary,
        )
        return memory, torch.cat([memory.logits.unsqueeze(1), written.logits], dim=1)

    def scores(
        self, memory: Memory, logits: Float[Tensor, "*batch kept"], states: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch symbol"]:
        """Returns log P of each symbol in nats, −inf where it is not allowed.

        Args:
            memory: what the logits followed.
            logits: of its vocabulary.
            states: the automaton's states in which a symbol is chosen.
        """
        return self.codec.log_probabilities(logits, states, full=self.full, vocabulary=memory.vocabulary)

    def choices(
        self, memory: Memory, logits: Float[Tensor, "*batch kept"], states: Int[Tensor, "*batch"]
    ) -> tuple[Float[Tensor, "*batch symbol"], Bool[Tensor, "*batch"]]:
        """Returns `scores` for those who choose by them, and which rows have numbers for scores.

        The others are scored alike over the symbols that are allowed, so that a path of the automaton is written all
        the same; whoever reads it must know that it means nothing.

        Args:
            memory: as in `scores`.
            logits: as in `scores`.
            states: as in `scores`.
        """
        scores = self.scores(memory, logits, states)
        finite = ~scores.isnan().any(dim=-1)
        if bool(finite.all()):
            return scores, finite
        alike = torch.zeros_like(scores).masked_fill(~self.codec.allowed(states), float("-inf"))
        return torch.where(finite.unsqueeze(-1), scores, alike), finite

    def start(self, memory: Memory) -> Int[Tensor, " batch"]:
        """Returns the automaton's first state for each row of a memory."""
        return torch.zeros(len(memory.state), dtype=torch.long, device=memory.state.device)
