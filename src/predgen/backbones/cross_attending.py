"""Models whose writing part attends to the states of the whole prompt: a prompt is padded on the right.

The memory holds those states, the keys and values that the decoder has made of them (once, for all writes), and the
keys and values of what was written. Tokens stand one after the other in each row, padding after them, so that a
token's index is its position, in whichever way a family encodes positions.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from predgen.backbones.attention_windows import additive_mask
from predgen.backbones.backbone import Backbone, Capabilities
from predgen.backbones.base import (
    LayerStates,
    Memory,
    Tree,
    TreeWritten,
    Written,
    compact,
    continued,
    dropout_off,
    logits_over,
)
from predgen.backbones.caches import fork
from predgen.backbones.self_check import Sample, find_capabilities, tolerance_of
from predgen.backbones.target_tokens import embedding_rows
from predgen.errors import BackboneError, TargetError


@dataclass(frozen=True)
class Layout:
    """Where tokens stand that do not simply follow each other.

    Attributes:
        positions: of each token.
        sees: which tokens each token sees, itself included.
    """

    positions: Int[Tensor, "batch token"]
    sees: Bool[Tensor, "batch token token"]

    def scores(self, dtype: torch.dtype) -> Float[Tensor, "batch 1 token token"]:
        """Returns an additive attention mask: 0 where a token is seen, else the smallest number."""
        return additive_mask(self.sees, dtype)


class CrossAttendingBackbone(Backbone):
    """An encoder, and a decoder that attends to all of its states.

    On the uncached path all written tokens go through the decoder in each write.

    Attributes:
        start_ids: the tokens that the decoder sees before a target.
        max_written: the most tokens that the decoder may see, these included.
    """

    pooling = "mean"
    start_ids: list[int]
    max_written: int

    def __init__(self, model: Any, *, cached: bool) -> None:
        super().__init__()
        self.model = model
        self.capabilities = Capabilities(cached)

    @abstractmethod
    def encode(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"], *, every_layer: bool = False
    ) -> Any:
        """Returns the encoder's output for a batch of prompts, as Hugging Face has it.

        Args:
            tokens: prompt tokens.
            mask: which of them are not padding.
            every_layer: whether it has the states of all layers, too, as `hidden_states`.
        """

    @abstractmethod
    def decode(
        self,
        tokens: Int[Tensor, "batch new"],
        prompt_states: Float[Tensor, "batch prompt hidden"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        cache: EncoderDecoderCache | None,
        layout: Layout | None = None,
    ) -> tuple[Sequence[Float[Tensor, "batch new hidden"]], Float[Tensor, "batch new vocab"]]:
        """Returns the decoder's states of some tokens, at every layer, and the logits that follow them.

        Args:
            tokens: what follows the tokens in the cache.
            prompt_states: the encoder's states.
            prompt_mask: which of them are not padding.
            cache: the decoder's keys and values, which grow; None on the uncached path.
            layout: where the tokens stand; one after the other if not given. With it, the cache holds no tokens.
        """

    @property
    def special_tokens(self) -> dict[str, Any]:
        """The special tokens around prompts and before targets, as JSON holds them."""
        return {**super().special_tokens, "start": self.start_ids}

    def use_special_tokens(self, values: dict[str, Any]) -> None:
        """Puts the special tokens around prompts and before targets that `special_tokens` gave."""
        super().use_special_tokens(values)
        self.start_ids = values["start"]

    # ---- states and logits

    def prompt_states(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
    ) -> Float[Tensor, "batch prompt hidden"]:
        """Returns the encoder's last states of a batch of prompts."""
        states: Tensor = self.encode(tokens, mask).last_hidden_state
        return states

    def read(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> Memory:
        """Returns the memory of a batch of prompts, with gradients if they are on."""
        states = self.prompt_states(tokens, mask)
        caches = self.capabilities.cached and not self._checkpoints_now
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache()) if caches else None
        start = self._start(tokens)
        layers, logits = self.decode(start, states, mask, cache)
        seen = torch.ones_like(start, dtype=torch.bool)
        next_logits = logits_over(logits[:, -1], vocabulary)
        return Memory(states, mask, layers[-1][:, -1], next_logits, start, seen, cache, vocabulary)

    def _start(self, tokens: Int[Tensor, "batch prompt"]) -> Int[Tensor, "batch start"]:
        """Returns the tokens that the decoder sees before a target, for each row."""
        return torch.tensor(self.start_ids, device=tokens.device).expand(len(tokens), -1)

    def write(self, memory: Memory, tokens: Int[Tensor, "batch target"], mask: Bool[Tensor, "batch target"]) -> Written:
        """Returns the states and logits of tokens written over a memory, which stays as it is."""
        before = memory.mask.sum(dim=1)
        length = memory.tokens.shape[1]
        rows = torch.arange(len(tokens), device=tokens.device)
        # A row that is behind the others has padding where its next token belongs.
        aligned = not bool((mask.any(dim=1) & (before < length)).any())
        prompt = (memory.prompt_states, memory.prompt_mask)
        all_tokens, all_mask = torch.cat([memory.tokens, tokens], dim=1), torch.cat([memory.mask, mask], dim=1)
        if aligned and memory.cache is not None:
            cache = fork(memory.cache)
            layers, logits = self.decode(tokens, *prompt, cache)
            states = layers[-1]
        else:
            all_tokens, all_mask = compact(all_tokens, all_mask)
            cache = self._empty(memory)
            layers, every_logits = self.decode(all_tokens, *prompt, cache)
            last = layers[-1].shape[1] - 1
            columns = (before.unsqueeze(1) + torch.arange(tokens.shape[1], device=tokens.device)).clamp(max=last)
            states, logits = layers[-1][rows.unsqueeze(1), columns], every_logits[rows.unsqueeze(1), columns]
        logits = logits_over(logits, memory.vocabulary)
        return continued(memory, states, logits, mask, tokens=all_tokens, mask=all_mask, cache=cache)

    def layer_states(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        target: Int[Tensor, "batch target"],
        target_mask: Bool[Tensor, "batch target"],
    ) -> LayerStates:
        """Returns the encoder's states of prompts and the decoder's of targets written over them, at every layer."""
        prompt = self.encode(tokens, mask, every_layer=True)
        # No token of a target sees the padding after it.
        fed = torch.cat([self._start(tokens), target], dim=1)
        layers, _ = self.decode(fed, prompt.last_hidden_state, mask, None)
        return LayerStates(list(prompt.hidden_states), [states[:, len(self.start_ids) :] for states in layers])

    def write_tree(
        self,
        memory: Memory,
        tokens: Int[Tensor, "batch node"],
        depths: Int[Tensor, "batch node"],
        ancestors: Bool[Tensor, "batch node all"],
        before: Tree | None = None,
    ) -> TreeWritten:
        """Returns the states and logits of nodes of a tree for each row, over a memory, which stays as it is.

        One forward of the decoder writes the whole tree, after what was written before it: a 4-D mask lets each node
        see that and its ancestors. Where the positions of a family cannot be set so, each branch is written as a row of
        its own.
        """
        tree = replace(before or Tree.empty(memory), cache=None).grown(tokens, depths, ancestors)
        num_new, num_nodes, length = tokens.shape[1], tree.tokens.shape[1], memory.tokens.shape[1]
        # Each node's index must be a position that the family can add, though there may be more nodes than positions.
        if not self.capabilities.masks_trees or length + num_nodes > self.max_written:
            return super().write_tree(memory, tokens, depths, ancestors, before)
        indexes = torch.arange(length, device=tokens.device)
        sees = (indexes.unsqueeze(1) >= indexes) & memory.mask.unsqueeze(1)
        sees = sees | torch.eye(length, dtype=torch.bool, device=tokens.device)
        nodes = torch.cat([memory.mask.unsqueeze(1).expand(-1, num_nodes, -1), tree.ancestors], dim=2)
        node_positions = memory.mask.sum(dim=1, keepdim=True) - 1 + tree.depths
        layout = Layout(
            torch.cat([indexes.expand(len(tokens), -1), node_positions], dim=1),
            torch.cat([torch.nn.functional.pad(sees, (0, num_nodes)), nodes], dim=1),
        )
        layers, logits = self.decode(
            torch.cat([memory.tokens, tree.tokens], dim=1),
            memory.prompt_states,
            memory.prompt_mask,
            self._empty(memory),
            layout,
        )
        return TreeWritten(layers[-1][:, -num_new:], logits_over(logits[:, -num_new:], memory.vocabulary), tree)

    def _empty(self, memory: Memory) -> EncoderDecoderCache | None:
        """Returns a cache of the prompt alone, which keeps what the decoder has made of the prompt's states."""
        if memory.cache is None:
            return None
        return EncoderDecoderCache(DynamicCache(), fork(memory.cache.cross_attention_cache))

    def longest_prompt(self, num_target: int) -> int:
        """Returns the most tokens of a prompt; the target stands apart from it.

        Raises:
            TargetError: the target is longer than what the decoder can write.
        """
        most = self.max_written - len(self.start_ids)
        if num_target > most:
            raise TargetError(
                f"Expected a target of at most {most} tokens, as many as {type(self.bare_model).__name__} can write, "
                f"found one of {num_target}. Use shorter label texts or letter codes (--set label_codes=true)."
            )
        return self.max_positions

    # ---- the check at load

    @torch.no_grad()
    def choose_path(self) -> None:
        """Confirms on random tokens that padding, cache and positions are right, or takes the uncached path.

        Raises:
            BackboneError: even the uncached path disagrees with unpadded forwards. It would be silently wrong.
        """
        sample = Sample.of(embedding_rows(self.bare_model), self.num_target_tokens, self.device)
        uncached = Capabilities(cached=False, masks_trees=self._sets_positions())
        candidates = [replace(uncached, cached=True), uncached] if self.capabilities.cached else [uncached]
        with dropout_off(self):
            self.capabilities, difference = find_capabilities(self, candidates, sample, self._states_alone)
        if not difference <= tolerance_of(self):
            raise BackboneError(
                "Expected a model whose states do not depend on padding or on later tokens, found "
                f"{type(self.bare_model).__name__}, whose states differ by {difference:.2g} (relative). "
                "Choose another, such as a T5, a BART or a BERT."
            )

    @abstractmethod
    def _sets_positions(self) -> bool:
        """Returns whether the decoder's positions can be set for a tree."""

    def _states_alone(
        self, prompt: Int[Tensor, " prompt"], target: Int[Tensor, " target"]
    ) -> Float[Tensor, "step hidden"]:
        fed = torch.cat([prompt.new_tensor(self.start_ids), target])
        return self._alone(prompt.unsqueeze(0), fed.unsqueeze(0))[0, len(self.start_ids) - 1 :]

    @abstractmethod
    def _alone(self, prompt: Int[Tensor, "1 prompt"], target: Int[Tensor, "1 target"]) -> Float[Tensor, "1 target h"]:
        """Returns the decoder's last states of a single row, by the model's own masks and positions."""
