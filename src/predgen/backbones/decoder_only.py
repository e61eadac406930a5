"""Decoder-only language models over their key/value cache."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from predgen.backbones.attention_windows import AttentionWindows, causal_mask, has_padding_inside
from predgen.backbones.backbone import Capabilities
from predgen.backbones.base import (
    LayerStates,
    Memory,
    Tree,
    TreeWritten,
    Written,
    compact,
    continued,
    dropout_off,
)
from predgen.backbones.caches import fork, repeated, roomy_cache
from predgen.backbones.causal_forward import CausalForward, Inputs, Wanted, at_columns, positions_of
from predgen.backbones.configs import has_code_for, max_positions_of, needs_indexes
from predgen.backbones.frozen_layers import has_dropout
from predgen.backbones.frozen_reading import FrozenReading
from predgen.backbones.linear_head import HEAD_TOLERANCE, may_be_linear, row_gradients
from predgen.backbones.prompts import PromptTokens, SpecialTokens, begin_tokens, shared_beginning
from predgen.backbones.self_check import Sample, find_capabilities, relative_difference, tolerance_of
from predgen.backbones.target_tokens import TokenizerTokens, embedding_rows, special_id
from predgen.errors import BackboneError

# The longest window or chunk that the check at load looks beyond; of longer ones the config is believed.
CHECKED_WINDOW = 64


class DecoderOnlyBackbone(FrozenReading):
    """A causal language model; prompts are padded on the left, targets on the right.

    The cached path reads the prompt once and writes over its key/value cache. The uncached path runs the whole text for
    each write, padded on the right and without any mask, as the model itself would run each row: it is exact for every
    causal model, also for those that keep no such cache (Mamba). Under gradient checkpointing, which cannot keep a
    cache, the cached path does without it.

    Args:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer.
        cached: take the cached path where it is exact; if not, always take the uncached path.
    """

    title = "decoder-only"
    loader = AutoModelForCausalLM
    class_names = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    pooling = "last"

    def __init__(self, model: Any, tokenizer: Any, *, cached: bool = True) -> None:
        super().__init__()
        self.model = model
        config = model.config.get_text_config()
        self._run = CausalForward.of(model)
        self._windows = AttentionWindows.of(config)
        cached = cached and self._run.takes_cache and not needs_indexes(config)
        self.capabilities = Capabilities(
            cached=cached,
            masks_trees=cached and self._windows is not None,
            pads_inside=self._windows is not None and self._windows.all_full,
        )
        if getattr(config, "rescale_every", 0):
            config.rescale_every = 0  # RWKV halves its weights in evaluation, to spare numbers of 16 bits
        self.hidden_size = self.prompt_size = int(config.hidden_size)
        self.max_positions = max_positions_of(config, tokenizer)
        self.target_tokens = TokenizerTokens(model, tokenizer)
        self.end_id = self.target_tokens.end_id
        # Padding is masked everywhere, so any token may stand for it; it is never read as the end token.
        choices = (special_id(model, tokenizer, "pad_token_id"), 0, 1)
        pad_id = next(token for token in choices if token is not None and token != self.end_id)
        special_tokens = SpecialTokens(prefix=begin_tokens(tokenizer), plain=True)
        self.prompts = PromptTokens(tokenizer, special_tokens, pad_id=pad_id, pads_left=True)

    @classmethod
    def handles(cls, config: Any) -> bool:
        """Returns whether a model of this config is a causal language model."""
        return config.model_type in cls.class_names or has_code_for(config, cls.loader)

    # ---- states and logits

    def prompt_states(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
    ) -> Float[Tensor, "batch prompt hidden"]:
        """Returns the last layer's states of a batch of prompts."""
        no_tokens = tokens[0, :0]
        if self._keeps_now:
            return self._read_over_frozen(tokens, mask, None, no_tokens)[0]
        shared = self._num_shared(tokens, mask)
        if shared:
            return self._read_after(tokens, mask, no_tokens, shared).prompt_states
        return self._run_whole(tokens, mask, None, Wanted(1, no_tokens))[0]

    def read(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> Memory:
        """Returns the memory of a batch of prompts, with gradients if they are on.

        The first tokens that all prompts share, such as a template's instruction, are read once, and the rest of each
        prompt over them.
        """
        shared = 0 if self._keeps_now else self._num_shared(tokens, mask)
        if shared:
            return self._read_after(tokens, mask, vocabulary, shared)
        cache = roomy_cache() if self._caches_now else None
        if self._keeps_now:
            states, logits = self._read_over_frozen(tokens, mask, cache, vocabulary)
        else:
            states, logits = self._run_whole(tokens, mask, cache, Wanted(1, vocabulary))
        return Memory(states, mask, states[:, -1], logits[:, -1], tokens, mask, cache, vocabulary)

    def _num_shared(self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]) -> int:
        """Returns how many first tokens of all prompts are read once; 0 where that would not be exact or not worth it.

        The rest of a padded row stands after padding inside the row, which the model's own mask must allow. Dropout
        must be drawn for each row.
        """
        if not self._caches_now or not self.capabilities.pads_inside or len(tokens) == 1:
            return 0
        shared = shared_beginning(tokens, mask)
        return 0 if self.training and has_dropout(self.bare_model) else shared

    def _read_after(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        vocabulary: Int[Tensor, " kept"] | None,
        shared: int,
    ) -> Memory:
        """Returns the memory of prompts whose first tokens are the same, which are read once."""
        rows, length = tokens.shape
        positions = positions_of(mask)
        start = int(mask[0].long().argmax())
        begin = tokens[:1, start : start + shared]
        begin_cache = roomy_cache()
        begin_states, _ = self._run_whole(begin, begin >= 0, begin_cache, Wanted(1, tokens[0, :0]))
        rest = (mask & (positions >= shared))[:, shared:]
        seen = torch.cat([torch.ones_like(mask[:, :shared]), rest], dim=1)
        all_tokens = torch.cat([begin.expand(rows, -1), tokens[:, shared:]], dim=1)
        cache = repeated(begin_cache, rows)
        states, logits = self._forward(
            Inputs(tokens[:, shared:], seen.long(), positions[:, shared:], cache), Wanted(1, vocabulary)
        )
        # The shared tokens stand in the first columns here, behind the padding in `tokens`; the other tokens stand in
        # the same columns in both.
        columns = torch.where(mask & (positions < shared), positions, torch.arange(length, device=tokens.device))
        prompt_states = at_columns(torch.cat([begin_states.expand(rows, -1, -1), states], dim=1), columns)
        return Memory(prompt_states, mask, states[:, -1], logits[:, -1], all_tokens, seen, cache, vocabulary)

    def write(self, memory: Memory, tokens: Int[Tensor, "batch target"], mask: Bool[Tensor, "batch target"]) -> Written:
        """Returns the states and logits of tokens written over a memory, which stays as it is."""
        all_tokens = torch.cat([memory.tokens, tokens], dim=1)
        all_mask = torch.cat([memory.mask, mask], dim=1)
        can = self.capabilities
        takes_padding = memory.cache is not None and can.pads_inside
        padded_inside = can.cached and not takes_padding and has_padding_inside(memory.mask, mask)
        if memory.cache is not None and (not padded_inside or can.masks_trees):
            cache = fork(memory.cache)
            states, logits = self._write_over(cache, memory, tokens, all_mask, by_position=padded_inside)
        elif padded_inside:
            cache = None if memory.cache is None else roomy_cache()
            all_tokens, all_mask = compact(all_tokens, all_mask, left=True)
            wanted = Wanted(tokens.shape[1], memory.vocabulary)
            states, logits = self._run_whole(all_tokens, all_mask, cache, wanted)
            from_right = torch.arange(tokens.shape[1], device=tokens.device) - mask.sum(dim=1, keepdim=True)
            states, logits = (
                at_columns(values, (values.shape[1] + from_right).clamp(max=values.shape[1] - 1))
                for values in (states, logits)
            )
        else:
            cache = None
            wanted = Wanted(tokens.shape[1], memory.vocabulary)
            states, logits = self._run_whole(all_tokens, all_mask, cache, wanted)
            states = states[:, -tokens.shape[1] :]
        return continued(memory, states, logits, mask, tokens=all_tokens, mask=all_mask, cache=cache)

    def _write_over(
        self,
        cache: DynamicCache,
        memory: Memory,
        tokens: Int[Tensor, "batch target"],
        all_mask: Bool[Tensor, "batch length"],
        *,
        by_position: bool,
    ) -> tuple[Float[Tensor, "batch target hidden"], Float[Tensor, "batch target kept"]]:
        """Returns the states and logits of tokens written over a cache, which grows.

        Args:
            cache: the keys and values of the memory.
            memory: what was read.
            tokens: the tokens.
            all_mask: which tokens of the memory and of these are not padding.
            by_position: mask by position, as the model counts its windows by index.
        """
        num_new = tokens.shape[1]
        all_positions = positions_of(all_mask)
        positions = all_positions[:, -num_new:]
        sees: Tensor | dict[str, Tensor] = all_mask.long()
        if by_position:
            sees = self._masks(causal_mask(all_mask)[:, -num_new:], positions, all_positions, memory.state.dtype)
        has_whole = memory.state.requires_grad
        with row_gradients(self.model, has_whole=has_whole):
            wanted = Wanted(num_new, memory.vocabulary, has_whole)
            return self._forward(Inputs(tokens, sees, positions, cache), wanted)

    def layer_states(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        target: Int[Tensor, "batch target"],
        target_mask: Bool[Tensor, "batch target"],
    ) -> LayerStates:
        """Returns the states of prompts and of targets written after them, at every layer, by the uncached path."""
        every_mask = torch.cat([mask, target_mask], dim=1)
        every = compact(torch.cat([tokens, target], dim=1), every_mask)[0]
        positions, length = positions_of(every_mask), tokens.shape[1]
        extra = {"logits_to_keep": 1} if self._run.keeps_logits else {}
        layers = self.model(input_ids=every, use_cache=False, output_hidden_states=True, **extra).hidden_states
        return LayerStates(
            [at_columns(states, positions[:, :length]) for states in layers],
            [at_columns(states, positions[:, length:]) for states in layers],
        )

    def write_tree(
        self,
        memory: Memory,
        tokens: Int[Tensor, "batch node"],
        depths: Int[Tensor, "batch node"],
        ancestors: Bool[Tensor, "batch node all"],
        before: Tree | None = None,
    ) -> TreeWritten:
        """Returns the states and logits of nodes of a tree for each row, over a memory, which stays as it is.

        One forward writes them: a 4-D mask lets each node see the memory and its ancestors within each layer's window.
        Nodes that were written before are in the cache. Models that do not take such a mask write each branch as a row
        of its own.
        """
        if not self.capabilities.masks_trees:
            return super().write_tree(memory, tokens, depths, ancestors, before)
        num_nodes = tokens.shape[1]
        before = before or Tree.empty(memory)
        cache = None if before.cache is None else fork(before.cache)
        tree = before.grown(tokens, depths, ancestors, cache)
        if cache is None:
            states, logits = self._run_with_tree(memory.tokens, memory.mask, tree, Wanted(num_nodes, memory.vocabulary))
            return TreeWritten(states[:, -num_nodes:], logits, tree)
        inputs = self._over_memory(memory.mask, tree, num_nodes, cache, memory.state.dtype)
        return TreeWritten(*self._forward(inputs, Wanted(num_nodes, memory.vocabulary)), tree)

    def _over_memory(
        self, mask: Bool[Tensor, "batch prompt"], tree: Tree, num_new: int, cache: DynamicCache, dtype: torch.dtype
    ) -> Inputs:
        positions = mask.long().sum(dim=1, keepdim=True) - 1 + tree.depths
        key_positions = torch.cat([positions_of(mask), positions], dim=1)
        new = slice(positions.shape[1] - num_new, None)
        sees = torch.cat([mask.unsqueeze(1).expand(-1, num_new, -1), tree.ancestors[:, new]], dim=2)
        masks = self._masks(sees, positions[:, new], key_positions, dtype)
        return Inputs(tree.tokens[:, new], masks, positions[:, new], cache)

    def read_tree(
        self,
        prompt: tuple[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"]],
        tokens: Int[Tensor, "batch node"],
        depths: Int[Tensor, "batch node"],
        ancestors: Bool[Tensor, "batch node node"],
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> tuple[Memory, TreeWritten]:
        """Returns the memory of prompts and the nodes of a tree after them, from one forward where that is exact."""
        read, mask = prompt
        if not self.capabilities.masks_trees or (not self._keeps_now and self._num_shared(read, mask)):
            return super().read_tree(prompt, tokens, depths, ancestors, vocabulary)
        tree, length = Tree(tokens, depths, ancestors), read.shape[1]
        with self._over_frozen_tree(read, mask, tree) if self._keeps_now else nullcontext():
            states, logits = self._run_with_tree(read, mask, tree, Wanted(tokens.shape[1] + 1, vocabulary))
        begun = states[:, :length]
        memory = Memory(begun, mask, begun[:, -1], logits[:, 0], read, mask, None, vocabulary)
        return memory, TreeWritten(states[:, length:], logits[:, 1:], tree)

    def _run_with_tree(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"], tree: Tree, wanted: Wanted
    ) -> tuple[Float[Tensor, "batch length hidden"], Float[Tensor, "batch column kept"]]:
        """Returns the states of prompts and of the nodes after them; each prompt token sees those up to itself."""
        nodes = mask.long().sum(dim=1, keepdim=True) - 1 + tree.depths
        positions = torch.cat([positions_of(mask), nodes], dim=1)
        above = nn.functional.pad(causal_mask(mask), (0, nodes.shape[1]))
        below = torch.cat([mask.unsqueeze(1).expand(-1, nodes.shape[1], -1), tree.ancestors], dim=2)
        masks = self._masks(torch.cat([above, below], dim=1), positions, positions, self.model.dtype)
        return self._forward(Inputs(torch.cat([tokens, tree.tokens], dim=1), masks, positions, None), wanted)

    def _masks(
        self,
        sees: Bool[Tensor, "batch query key"],
        positions: Int[Tensor, "batch query"],
        key_positions: Int[Tensor, "batch key"],
        dtype: torch.dtype,
    ) -> Tensor | dict[str, Tensor]:
        assert self._windows is not None  # or `masks_trees` is not set
        return self._windows.masks(sees, positions, key_positions, dtype)

    # ---- one forward of the model

    def _run_whole(
        self,
        tokens: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch length"],
        cache: DynamicCache | None,
        wanted: Wanted,
    ) -> tuple[Float[Tensor, "batch length hidden"], Float[Tensor, "batch new kept"]]:
        """Returns the last states of whole texts, and the logits of their last columns.

        Args:
            tokens: the texts, padded on the left; anywhere on the uncached path.
            mask: which tokens are not padding.
            cache: an empty cache to fill; None to keep nothing.
            wanted: which logits, of a number of last columns.
        """
        positions = positions_of(mask)
        if self.capabilities.cached:
            return self._forward(Inputs(tokens, mask.long(), positions, cache), wanted)
        # A token's position is its index now, and no token sees the padding after it.
        columns, indexes = positions[:, -wanted.columns :].unique(return_inverse=True)
        inputs = Inputs(compact(tokens, mask)[0], None, None, None)
        states, logits = self._forward(inputs, replace(wanted, columns=columns))
        return at_columns(states, positions), at_columns(logits, indexes)

    def _forward(
        self, inputs: Inputs, wanted: Wanted
    ) -> tuple[Float[Tensor, "batch new hidden"], Float[Tensor, "batch column kept"]]:
        return self._run(self.model, inputs, wanted, linear_head=self.capabilities.linear_head)

    @property
    def _caches_now(self) -> bool:
        return self.capabilities.cached and not self._checkpoints_now

    # ---- limits, and what is trained

    def longest_prompt(self, num_target: int) -> int:
        """Returns the most tokens that a prompt may have before a target of some tokens."""
        return self.max_positions - num_target

    def freeze_writer(self) -> None:
        """Freezes the output matrix if it is not tied to the input embeddings."""
        output = self.model.get_output_embeddings()
        if output is not None and output.weight is not self.model.get_input_embeddings().weight:
            output.requires_grad_(False)

    # ---- the check at load

    @torch.no_grad()
    def choose_path(self) -> None:
        """Confirms on random tokens that padding, cache and positions are right, or takes the uncached path.

        Raises:
            BackboneError: even the uncached path disagrees with unpadded forwards, as with a model that is not
                causal. It would be silently wrong.
        """
        with dropout_off(self):
            first = torch.zeros(1, 1, dtype=torch.long, device=self.device)
            state = self.model(input_ids=first, use_cache=False, output_hidden_states=True).hidden_states[-1]
            self.hidden_size = self.prompt_size = state.shape[-1]  # OPT-350m makes its last states smaller
            rows = embedding_rows(self.model)
            window = self._windows.longest if self._windows is not None else 0
            sample = Sample.of(rows, rows, self.device, longer=window if window <= CHECKED_WINDOW else 0)
            chosen, difference = find_capabilities(self, self._candidates(), sample, self._states_alone)
            if chosen.cached:
                chosen = replace(chosen, linear_head=self._has_linear_head(chosen))
            self.capabilities = chosen
        if not difference <= tolerance_of(self):
            raise BackboneError(
                "Expected a causal language model whose states do not depend on padding or on later tokens, found "
                f"{type(self.model).__name__}, whose states differ by {difference:.2g} (relative). "
                "Choose a decoder-only model, such as a Llama, Qwen or GPT-2."
            )

    def _candidates(self) -> list[Capabilities]:
        """Returns the capabilities to try, the fastest first, the uncached path last."""
        hoped = replace(self.capabilities, linear_head=False)
        without = replace(hoped, pads_inside=False)
        cached = [hoped, without, replace(without, masks_trees=False)] if hoped.cached else []
        return [*dict.fromkeys(cached), Capabilities(cached=False)]

    def _states_alone(
        self, prompt: Int[Tensor, " prompt"], target: Int[Tensor, " target"]
    ) -> Float[Tensor, "step hidden"]:
        # The model's own mask and positions, which some families count from another number than 0 (RoBERTa).
        row = torch.cat([prompt, target]).unsqueeze(0)
        states: Tensor = self.model(input_ids=row, use_cache=False, output_hidden_states=True).hidden_states[-1]
        return states[0, len(prompt) - 1 :]

    def _has_linear_head(self, chosen: Capabilities) -> bool:
        """Returns whether the logits of some tokens can be computed alone, tried on random tokens."""
        if not self._run.keeps_logits or not may_be_linear(self.model, self.hidden_size):
            return False
        rows = embedding_rows(self.model)
        tokens = torch.randint(rows, (1, 5), generator=torch.Generator().manual_seed(2)).to(self.device)
        inputs = Inputs(tokens, torch.ones_like(tokens), positions_of(tokens >= 0), None)
        self.capabilities = chosen
        expected = self._forward(inputs, Wanted(5))[1][..., : len(self.model.get_output_embeddings().weight)]
        every = torch.arange(expected.shape[-1], device=tokens.device)
        self.capabilities = replace(chosen, linear_head=True)
        try:
            difference = relative_difference(self._forward(inputs, Wanted(5, every))[1], expected)
        except Exception:  # a family that must have a column's logits
            return False
        return difference <= HEAD_TOLERANCE.get(self.model.dtype, 0.0)
