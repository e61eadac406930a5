"""Decoder-only language models over their key/value cache."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from predgen.backbones.base import LayerStates, Memory, Tree, TreeWritten, Written, compact, continued, dropout_off
from predgen.backbones.caches import fork, repeated, roomy_cache
from predgen.backbones.hugging_face import (
    HuggingFaceBackbone,
    kept_of,
    max_positions_of,
    positions_of,
    relative_difference,
)
from predgen.backbones.reaches import Reaches, has_gaps, up_to_itself
from predgen.backbones.self_check import Sample, read_sample, tree_disagreement, write_sample
from predgen.errors import BackboneError
from predgen.processes import num_processes

# The longest window or chunk that the check at load looks beyond; of longer ones the config is believed.
CHECKED_REACH = 64
# What all prompts of a batch begin with is read once where it is so many tokens, and such a part of the longest prompt.
LEAST_SHARED = 16
LEAST_SHARED_PART = 0.125
# Largest relative difference of logits to a linear map of the states: what rounding makes, and no scale or transform.
HEAD_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
# The types of rows that a CPU adds to whole gradients.
ROW_TYPES = (torch.float32, torch.bfloat16)
# Dropout that is no module of its own.
DROPOUT_RATES = ("attention_dropout", "attn_pdrop")
# Asks a model for no column's logits.
NO_COLUMNS = torch.zeros(0, dtype=torch.long)


class DecoderOnlyBackbone(HuggingFaceBackbone):
    """A causal language model; prompts are padded on the left, targets on the right.

    There are two roads to the same states. The cached one reads the prompt once and writes over its key/value
    cache. The plain one runs the whole text each time, padded on the right and without any mask, as the model itself
    would run each row: it is exact for every causal model, also those that keep no such cache (Mamba). Under gradient
    checkpointing, which cannot keep a cache, the first road does without it.

    Args:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer.
        plain: always take the plain road.

    Attributes:
        masks_trees: whether a tree is written in one forward under a 4-D mask, which also says which tokens are in the
            windows of a row with padding in its middle.
        linear_head: whether logits are a linear map of the last states, so that some of them can be had without the
            others.
    """

    pads_left = True
    pooling = "last"

    def __init__(self, model: Any, tokenizer: Any, *, plain: bool = False) -> None:
        super().__init__(model, tokenizer)
        config = model.config.get_text_config()
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._keeps_logits = "logits_to_keep" in parameters
        self._reaches = Reaches.of(config)
        self.plain = plain or "past_key_values" not in parameters or _needs_indexes(config)
        self.masks_trees = not self.plain and self._reaches is not None
        # Whether the model's own 2-D mask is right where a row has padding in its middle.
        self._takes_gaps = self._reaches is not None and self._reaches.all_full
        self.linear_head = False
        if getattr(config, "rescale_every", 0):
            config.rescale_every = 0  # RWKV halves its weights in evaluation, to spare numbers of 16 bits
        self.hidden_size = self.prompt_size = int(config.hidden_size)
        self.max_positions = max_positions_of(config, tokenizer)
        eos_id = self.special_id("eos_token_id")
        self.end_id = eos_id if eos_id is not None else self.add_token(tokenizer.eos_token or "<|end|>")
        # Padding is masked everywhere, so any token may stand for it; it is never read as the end token.
        choices = (self.special_id("pad_token_id"), 0, 1)
        self.pad_id = next(token for token in choices if token is not None and token != self.end_id)
        self._prefix, self._suffix = _prompt_prefix(tokenizer), []

    # ---- states and logits

    def prompt_states(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
    ) -> Float[Tensor, "batch prompt hidden"]:
        """Returns the last layer's states of a batch of prompts."""
        none = tokens[0, :0]
        shared = self._num_shared(tokens, mask)
        if shared:
            return self._read_after(tokens, mask, none, shared).prompt_states
        return self._whole(tokens, mask, None, num_new=1, vocabulary=none)[0]

    def read(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> Memory:
        """Returns the memory of a batch of prompts, with gradients if they are on.

        What all prompts begin with, such as a template's instruction, is read once, and the rest of each over it.
        """
        cache = None if self._plain_now() else roomy_cache()
        shared = self._num_shared(tokens, mask)
        if shared:
            return self._read_after(tokens, mask, vocabulary, shared)
        states, logits = self._whole(tokens, mask, cache, num_new=1, vocabulary=vocabulary)
        return Memory(states, mask, states[:, -1], logits[:, -1], tokens, mask, cache, vocabulary)

    def _num_shared(self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]) -> int:
        """Returns how many first tokens of all prompts are read once; 0 where that would not be exact or not worth it.

        The rest of a padded row stands after a gap, which the model's own mask must allow. Dropout must be drawn for
        each row.
        """
        if self._plain_now() or not self._takes_gaps or len(tokens) == 1:
            return 0
        first, num_own = mask.long().argmax(dim=1, keepdim=True), mask.sum(dim=1)
        shortest = int(num_own.min())
        if shortest <= LEAST_SHARED:  # each row needs a token of its own
            return 0
        begun = tokens.gather(1, first + torch.arange(shortest - 1, device=tokens.device))
        shared = int((begun == begun[:1]).all(dim=0).long().cumprod(dim=0).sum())
        worth = shared >= LEAST_SHARED and shared >= LEAST_SHARED_PART * tokens.shape[1]
        return shared if worth and not self._drops() else 0

    def _drops(self) -> bool:
        """Returns whether some dropout is on."""
        rates = (getattr(self.bare_model.config.get_text_config(), name, 0) for name in DROPOUT_RATES)
        drops = any(isinstance(part, nn.Dropout) and part.p > 0 and part.training for part in self.model.modules())
        return self.training and (drops or any(rates))

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
        once = roomy_cache()
        begin_states, _ = self._whole(begin, begin >= 0, once, num_new=1, vocabulary=tokens[0, :0])
        own = (mask & (positions >= shared))[:, shared:]
        seen = torch.cat([torch.ones_like(mask[:, :shared]), own], dim=1)
        all_tokens = torch.cat([begin.expand(rows, -1), tokens[:, shared:]], dim=1)
        cache = repeated(once, rows)
        states, logits = self._forward(
            tokens[:, shared:], seen.long(), positions[:, shared:], cache, keep=1, vocabulary=vocabulary
        )
        # Back to where the prompts' tokens stand: a column of their own is the same here and there.
        places = torch.where(mask & (positions < shared), positions, torch.arange(length, device=tokens.device))
        prompt_states = _picked(torch.cat([begin_states.expand(rows, -1, -1), states], dim=1), places)
        return Memory(prompt_states, mask, states[:, -1], logits[:, -1], all_tokens, seen, cache, vocabulary)

    def write(self, memory: Memory, tokens: Int[Tensor, "batch target"], mask: Bool[Tensor, "batch target"]) -> Written:
        """Returns the states and logits of tokens written over a memory, which stays as it is."""
        all_tokens = torch.cat([memory.tokens, tokens], dim=1)
        all_mask = torch.cat([memory.mask, mask], dim=1)
        num_new = tokens.shape[1]
        gaps = not self.plain and (memory.cache is None or not self._takes_gaps) and has_gaps(memory.mask, mask)
        if memory.cache is not None and (not gaps or self.masks_trees):
            cache = fork(memory.cache)
            positions = positions_of(all_mask)
            own = positions[:, -num_new:]
            sees: Tensor | dict[str, Tensor] = all_mask.long()
            if gaps:  # the model counts its windows by index, which is no position here
                sees = self._masks(up_to_itself(all_mask)[:, -num_new:], own, positions, memory.state.dtype)
            live = memory.state.requires_grad
            with self._few_rows(live):
                written = self._forward(tokens, sees, own, cache, keep=num_new, vocabulary=memory.vocabulary, live=live)
        elif gaps:
            cache = None if memory.cache is None else roomy_cache()
            all_tokens, all_mask = compact(all_tokens, all_mask, left=True)
            states, logits = self._whole(all_tokens, all_mask, cache, num_new=num_new, vocabulary=memory.vocabulary)
            places = torch.arange(num_new, device=tokens.device) - mask.sum(dim=1, keepdim=True)  # from the right
            written = (
                _picked(states, (states.shape[1] + places).clamp(max=states.shape[1] - 1)),
                _picked(logits, (logits.shape[1] + places).clamp(max=logits.shape[1] - 1)),
            )
        else:
            cache = None
            states, logits = self._whole(all_tokens, all_mask, cache, num_new=num_new, vocabulary=memory.vocabulary)
            written = states[:, -num_new:], logits
        return continued(memory, written, mask, tokens=all_tokens, mask=all_mask, cache=cache)

    def layer_states(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        target: Int[Tensor, "batch target"],
        target_mask: Bool[Tensor, "batch target"],
    ) -> LayerStates:
        """Returns the states of prompts and of targets written after them, at every layer, by the plain road."""
        every_mask = torch.cat([mask, target_mask], dim=1)
        every = compact(torch.cat([tokens, target], dim=1), every_mask)[0]
        positions, length = positions_of(every_mask), tokens.shape[1]
        extra = {"logits_to_keep": 1} if self._keeps_logits else {}
        layers = self.model(input_ids=every, use_cache=False, output_hidden_states=True, **extra).hidden_states
        return LayerStates(
            [_picked(states, positions[:, :length]) for states in layers],
            [_picked(states, positions[:, length:]) for states in layers],
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

        One forward writes them: a 4-D mask lets each node see the memory and its ancestors, as far as each layer sees.
        Nodes that were written before are in the cache. Models that do not take such a mask write each branch as a row
        of its own.
        """
        if not self.masks_trees:
            return super().write_tree(memory, tokens, depths, ancestors, before)
        num_nodes = tokens.shape[1]
        before = before or Tree.empty(memory)
        cache = None if before.cache is None else fork(before.cache)
        tree = before.grown(tokens, depths, ancestors, cache)
        positions = memory.mask.long().sum(dim=1, keepdim=True) - 1 + tree.depths
        key_positions = torch.cat([positions_of(memory.mask), positions], dim=1)
        if cache is None:
            # Prompt and nodes go through one forward; each prompt token sees those up to itself.
            tokens, positions, ancestors = torch.cat([memory.tokens, tree.tokens], dim=1), key_positions, tree.ancestors
        sees = torch.cat([memory.mask.unsqueeze(1).expand(-1, ancestors.shape[1], -1), ancestors], dim=2)
        if cache is None:
            above = nn.functional.pad(up_to_itself(memory.mask), (0, tree.tokens.shape[1]))
            sees = torch.cat([above, sees], dim=1)
        else:
            positions = positions[:, -num_nodes:]
        masks = self._masks(sees, positions, key_positions, memory.state.dtype)
        states, logits = self._forward(tokens, masks, positions, cache, keep=num_nodes, vocabulary=memory.vocabulary)
        return TreeWritten(states[:, -num_nodes:], logits, tree)

    def _masks(
        self,
        sees: Bool[Tensor, "batch query key"],
        positions: Int[Tensor, "batch query"],
        key_positions: Int[Tensor, "batch key"],
        dtype: torch.dtype,
    ) -> Tensor | dict[str, Tensor]:
        assert self._reaches is not None  # or `masks_trees` is not set
        return self._reaches.masks(sees, positions, key_positions, dtype)

    def _whole(
        self,
        tokens: Int[Tensor, "batch length"],
        mask: Bool[Tensor, "batch length"],
        cache: DynamicCache | None,
        num_new: int,
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> tuple[Float[Tensor, "batch length hidden"], Float[Tensor, "batch new kept"]]:
        """Returns the last states of whole texts, and the logits of their last columns.

        Args:
            tokens: the texts, padded on the left; anywhere if the road is plain.
            mask: which tokens are not padding.
            cache: an empty one to fill, if one is wanted.
            num_new: how many columns' logits are needed.
            vocabulary: the tokens whose logits are needed; all if not given.
        """
        positions = positions_of(mask)
        if not self.plain:
            return self._forward(tokens, mask.long(), positions, cache, keep=num_new, vocabulary=vocabulary)
        # A token's position is its index now, and no token sees the padding after it.
        wanted, places = positions[:, -num_new:].unique(return_inverse=True)
        states, logits = self._forward(compact(tokens, mask)[0], None, None, None, keep=wanted, vocabulary=vocabulary)
        return _picked(states, positions), _picked(logits, places)

    def _some_logits(
        self, states: Float[Tensor, "batch node hidden"], vocabulary: Int[Tensor, " kept"], live: bool
    ) -> Float[Tensor, "batch node kept"]:
        """Returns the logits of some tokens where the head is linear; `live` as in `_forward`."""
        head = self.model.get_output_embeddings()
        bias = None if head.bias is None else head.bias[vocabulary]
        tied = head.weight is self.model.get_input_embeddings().weight
        rows = nn.functional.embedding(vocabulary, head.weight, sparse=tied and live and self._adds_rows)
        return nn.functional.linear(states, rows, bias)

    @property
    def _adds_rows(self) -> bool:
        """Whether gradients of a few embeddings are kept as rows, and added to those of the prompt's, which are whole.

        Else each write would fill a matrix of the size of the vocabulary. Tried on one CPU process alone, which adds no
        such rows of float16.
        """
        embeddings = self.model.get_input_embeddings()
        weight = embeddings.weight
        alone = num_processes() == 1 and weight.device.type == "cpu" and weight.dtype in ROW_TYPES
        return type(embeddings) is nn.Embedding and weight.requires_grad and alone

    @contextmanager
    def _few_rows(self, live: bool) -> Iterator[None]:
        """Lets the embeddings of what is written have gradients of their own rows alone."""
        embeddings = self.model.get_input_embeddings()
        if not (live and torch.is_grad_enabled() and self._adds_rows):
            yield
            return
        before, embeddings.sparse = embeddings.sparse, True
        try:
            yield
        finally:
            embeddings.sparse = before

    @property
    def _picks_logits(self) -> bool:
        """Whether some tokens' logits can be had alone; rows of added tokens that PEFT trains are in no plain head."""
        return self.linear_head and type(self.model.get_output_embeddings()) is nn.Linear

    def _forward(
        self,
        tokens: Int[Tensor, "batch new"],
        mask: Tensor | dict[str, Tensor] | None,
        positions: Int[Tensor, "batch new"] | None,
        cache: DynamicCache | None,
        keep: int | Int[Tensor, " columns"],
        vocabulary: Int[Tensor, " kept"] | None = None,
        live: bool = True,
    ) -> tuple[Float[Tensor, "batch new hidden"], Float[Tensor, "batch column kept"]]:
        """Returns the last states of the new tokens, and the logits of some of them.

        Args:
            tokens: the new tokens.
            mask: 1 for tokens and 0 for padding, shape (batch, length); or what is added to the attention's scores,
                shape (batch, 1, new, length), of all layers or of each kind; None if each token sees all before it.
            positions: of the new tokens; None if they are their indexes.
            cache: what was read before; None if nothing was.
            keep: how many columns' logits are needed, or the indexes of the tokens that they follow.
            vocabulary: the tokens whose logits are needed; all if not given.
            live: whether the prompt's embeddings have gradients in the same graph, whole ones.
        """
        picks = vocabulary is not None and self._picks_logits
        extra: dict[str, Any] = {"position_ids": positions} if self._takes_positions and positions is not None else {}
        if self._keeps_logits:
            extra["logits_to_keep"] = NO_COLUMNS if picks else keep
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
            output_hidden_states=True,
            **extra,
        )
        states, logits = output.hidden_states[-1], output.logits
        if picks:
            assert vocabulary is not None  # or nothing is picked
            columns = states[:, -keep:] if isinstance(keep, int) else states[:, keep]
            return states, self._some_logits(columns, vocabulary, live)
        if isinstance(keep, int):
            logits = logits[:, -keep:]
        elif not self._keeps_logits:
            logits = logits[:, keep]
        return states, kept_of(logits, vocabulary)

    def _plain_now(self) -> bool:
        # Under gradient checkpointing a cache comes back empty, with only a warning.
        return self.plain or (
            self.training and any(getattr(part, "gradient_checkpointing", False) for part in self.model.modules())
        )

    # ---- limits, and what is trained

    def longest_prompt(self, num_target: int) -> int:
        """Returns the most tokens that a prompt may have before a target of some tokens."""
        return self.max_positions - num_target

    def freeze_writer(self) -> None:
        """Keeps an output matrix of its own from being trained."""
        output = self.model.get_output_embeddings()
        if output is not None and output.weight is not self.model.get_input_embeddings().weight:
            output.requires_grad_(False)

    # ---- the check at load

    @torch.no_grad()
    def choose_road(self) -> None:
        """Confirms on random tokens that padding, cache and positions are right, or falls back to the plain road.

        Raises:
            BackboneError: even the plain road disagrees with one unpadded forward, as with a model that is not
                causal. It would be silently wrong.
        """
        with dropout_off(self):
            first = torch.zeros(1, 1, dtype=torch.long, device=self.device)
            state = self.model(input_ids=first, use_cache=False, output_hidden_states=True).hidden_states[-1]
            self.hidden_size = self.prompt_size = state.shape[-1]  # OPT-350m makes its last states smaller
            roads = ((self._takes_gaps, self.masks_trees), (False, self.masks_trees), (False, False))
            for takes_gaps, masks in () if self.plain else roads:
                self._takes_gaps, self.masks_trees = takes_gaps, masks
                if self._agrees():
                    self.masks_trees = masks and self._tree_disagreement() <= self.tolerance
                    self.linear_head = self._head_disagreement() <= HEAD_TOLERANCE.get(self.model.dtype, 0.0)
                    return
            self.plain, self.masks_trees = True, False
            disagreement = self._disagreement()
        if not disagreement <= self.tolerance:
            raise BackboneError(
                "Expected a causal language model whose states do not depend on padding or on later tokens, found "
                f"{type(self.model).__name__}, whose states differ by {disagreement:.2g} (relative). "
                "Choose a decoder-only model, such as a Llama, Qwen or GPT-2."
            )

    def _agrees(self) -> bool:
        """Returns whether the road as it is set now is exact."""
        try:
            return self._disagreement() <= self.tolerance
        except Exception:  # a family that keeps another kind of memory breaks on this one (LFM2)
            return False

    def _disagreement(self) -> float:
        """Returns the largest relative difference between reading and writing padded rows, and plain forwards."""
        sample = self._sample()
        worst = 0.0
        for prompt, target, states in zip(sample.prompts, sample.targets, write_sample(self, sample), strict=True):
            alone = torch.tensor([[*prompt, *target.tolist()]], device=self.device)
            # The model's own mask and positions, which some families count from another number than 0 (RoBERTa).
            reference = self.model(input_ids=alone, use_cache=False, output_hidden_states=True).hidden_states[-1]
            worst = max(worst, relative_difference(states, reference[0, len(prompt) - 1 :]))
        return worst

    def _sample(self) -> Sample:
        rows = self.model.get_input_embeddings().weight.shape[0]
        reach = self._reaches.longest if self._reaches is not None else 0
        return Sample.of(rows, rows, self.device, longer=reach if reach <= CHECKED_REACH else 0)

    def _head_disagreement(self) -> float:
        """Returns the largest relative difference between the logits and a linear map of the states.

        Infinite where that map could not be had: a head of another kind, with a cap that small logits do not show, or
        that is not where the states come from.
        """
        head = self.model.get_output_embeddings()
        config = self.model.config.get_text_config()
        plain = type(head) is nn.Linear and head.in_features == self.hidden_size and not hasattr(head, "_hf_hook")
        capped = any("softcap" in name and value for name, value in config.to_dict().items())
        if not self._keeps_logits or not plain or capped or head.weight.device != self.device:
            return float("inf")
        rows = self.model.get_input_embeddings().weight.shape[0]
        tokens = torch.randint(rows, (1, 5), generator=torch.Generator().manual_seed(2)).to(self.device)
        row = (tokens, torch.ones_like(tokens), positions_of(tokens >= 0), None)
        expected = self._forward(*row, keep=5)[1][..., : len(head.weight)]
        every = torch.arange(expected.shape[-1], device=tokens.device)
        self.linear_head = True
        try:
            return relative_difference(self._forward(*row, keep=5, vocabulary=every)[1], expected)
        except Exception:  # a family that must have a column's logits
            return float("inf")
        finally:
            self.linear_head = False

    def _tree_disagreement(self) -> float:
        """Returns the largest relative difference between a tree under its mask and its branches on their own."""
        sample = self._sample()
        memory = read_sample(self, sample)
        # Without a cache, as under gradient checkpointing.
        return tree_disagreement(self, sample, [memory, replace(memory, cache=None)])


def _needs_indexes(config: Any) -> bool:
    """Returns whether a model is right only where each token's index is its position, and no cache of ours is."""
    recurrent = any(DynamicCache(config=config).is_linear)  # it reads its padding, and keeps another kind of memory
    return recurrent or bool(getattr(config, "attn_temperature_tuning", False))  # Llama 4 scales by index


def _picked(
    parts: Float[Tensor, "batch column size"], columns: Int[Tensor, "batch kept"]
) -> Float[Tensor, "batch kept size"]:
    """Returns each row's parts at its own columns."""
    rows = torch.arange(len(parts), device=parts.device).unsqueeze(1)
    return parts[rows, columns]


def _prompt_prefix(tokenizer: Any) -> list[int]:
    """Returns the begin token if the model was trained with one before its texts."""
    begin = tokenizer.bos_token_id
    if begin is None:
        return []
    own = tokenizer("a")["input_ids"]
    # Some tokenizers name their end token as begin token and never write it (GPT-2); others write it (OPT).
    return [begin] if own[:1] == [begin] or begin != tokenizer.eos_token_id else []
