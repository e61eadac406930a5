"""Decoder-only language models over their key/value cache."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from predgen.backbones.base import Backbone, Memory, TreeWritten, Written, dropout_off
from predgen.errors import BackboneError

# Largest relative difference of states between the cached road and one plain forward that counts as equal.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 1e-1}
UNLIMITED_POSITIONS = 1_000_000


class DecoderOnlyBackbone(Backbone):
    """A causal language model; prompts are padded on the left, targets on the right.

    There are two roads to the same states. The cached one reads the prompt once and writes over its key/value
    cache; the plain one runs the whole text each time, for models without such a cache and under gradient
    checkpointing, which cannot keep one.

    Args:
        model: a Hugging Face causal language model.
        tokenizer: its tokenizer.
        plain: always take the plain road.

    Attributes:
        masks_trees: whether a tree is written in one forward under a 4-D mask. Not with sliding windows, which such a
            mask would have to know.
        linear_head: whether logits are a linear map of the last states, so that some of them can be had without the
            others.
    """

    def __init__(self, model: Any, tokenizer: Any, *, plain: bool = False) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.plain = plain
        self.masks_trees = not plain and not _has_windows(model.config)
        self.linear_head = False
        config = model.config.get_text_config()
        self.hidden_size = int(config.hidden_size)
        self.max_positions = _max_positions(config, tokenizer)
        self.added_token_ids: list[int] = []
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._keeps_logits = "logits_to_keep" in parameters
        # A special token that was added to the tokenizer alone has no row in the model.
        rows = model.get_input_embeddings().weight.shape[0]
        eos_id, pad_id = (
            token if token is not None and token < rows else None
            for token in (tokenizer.eos_token_id, tokenizer.pad_token_id)
        )
        self.end_id = eos_id if eos_id is not None else self.add_token(tokenizer.eos_token or "<|end|>")
        # Padding is masked everywhere, so any token may stand for it; it is never read as the end token.
        self.pad_id = next(token for token in (pad_id, 0, 1) if token is not None and token != self.end_id)
        self._prompt_prefix = _prompt_prefix(tokenizer)

    # ---- states and logits

    def read(self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]) -> Memory:
        """Returns the memory of a batch of prompts, with gradients if they are on."""
        cache = None if self._plain_now() else DynamicCache()
        states, logits = self._forward(tokens, mask.long(), _positions(mask), cache, keep=1)
        return Memory(states, mask, states[:, -1], logits[:, -1], tokens, mask, cache)

    def write(self, memory: Memory, tokens: Int[Tensor, "batch target"], mask: Bool[Tensor, "batch target"]) -> Written:
        """Returns the states and logits of tokens written over a memory, which stays as it is."""
        all_tokens = torch.cat([memory.tokens, tokens], dim=1)
        all_mask = torch.cat([memory.mask, mask], dim=1)
        positions = _positions(all_mask)
        num_new = tokens.shape[1]
        if memory.cache is None:
            states, logits = self._forward(all_tokens, all_mask.long(), positions, None, keep=num_new)
            cache = None
            states = states[:, -num_new:]
        else:
            cache = _fork(memory.cache)
            states, logits = self._forward(tokens, all_mask.long(), positions[:, -num_new:], cache, keep=num_new)
        states = torch.cat([memory.state.unsqueeze(1), states], dim=1)
        logits = torch.cat([memory.logits.unsqueeze(1), logits], dim=1)
        # What comes next follows each row's last token, not its padding; a row without a token is where it was.
        rows, last = torch.arange(len(tokens), device=tokens.device), mask.sum(dim=1)
        after = replace(
            memory, state=states[rows, last], logits=logits[rows, last], tokens=all_tokens, mask=all_mask, cache=cache
        )
        return Written(states, logits, after)

    def write_tree(
        self,
        memory: Memory,
        tokens: Int[Tensor, "batch node"],
        depths: Int[Tensor, "batch node"],
        ancestors: Bool[Tensor, "batch node node"],
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> TreeWritten:
        """Returns the states and logits of a tree of tokens for each row, over a memory, which stays as it is.

        One forward writes all of it: a 4-D mask lets each node see the memory and its ancestors. Models that do not
        take such a mask write each branch as a row of its own.
        """
        if not self.masks_trees:
            return super().write_tree(memory, tokens, depths, ancestors, vocabulary)
        num_nodes = tokens.shape[1]
        positions = memory.mask.long().sum(dim=1, keepdim=True) - 1 + depths
        sees = torch.cat([memory.mask.unsqueeze(1).expand(-1, num_nodes, -1), ancestors], dim=2)
        if memory.cache is None:
            # Prompt and nodes go through one forward; each prompt token sees those up to itself.
            length = memory.tokens.shape[1]
            causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
            own = (causal & memory.mask.unsqueeze(1)) | torch.eye(length, dtype=torch.bool, device=tokens.device)
            sees = torch.cat([nn.functional.pad(own, (0, num_nodes)), sees], dim=1)
            tokens = torch.cat([memory.tokens, tokens], dim=1)
            positions = torch.cat([_positions(memory.mask), positions], dim=1)
            cache = None
        else:
            cache = _fork(memory.cache)
        dtype = memory.state.dtype
        scores = torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill(~sees, torch.finfo(dtype).min)
        some = vocabulary is not None and self.linear_head
        states, logits = self._forward(tokens, scores.unsqueeze(1), positions, cache, keep=1 if some else num_nodes)
        states = states[:, -num_nodes:]
        if vocabulary is not None:
            logits = self._some_logits(states, vocabulary) if some else logits[..., vocabulary]
        return TreeWritten(states, logits)

    def _some_logits(
        self, states: Float[Tensor, "batch node hidden"], vocabulary: Int[Tensor, " kept"]
    ) -> Float[Tensor, "batch node kept"]:
        """Returns the logits of some tokens where the head is linear."""
        head = self.model.get_output_embeddings()
        bias = None if head.bias is None else head.bias[vocabulary]
        return nn.functional.linear(states, head.weight[vocabulary], bias)

    def take(self, memory: Memory, rows: Int[Tensor, " taken"]) -> Memory:
        """Returns the memory of some of its rows, in the order given; a row may be taken several times."""
        cache = memory.cache
        if cache is not None:
            cache = _fork(cache)
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys[rows], layer.values[rows]
        parts = {
            name: getattr(memory, name)[rows]
            for name in ("prompt_states", "prompt_mask", "state", "logits", "tokens", "mask")
        }
        return Memory(**parts, cache=cache)

    def detach(self, memory: Memory) -> Memory:
        """Returns the memory without its graph of gradients."""
        cache = memory.cache
        if cache is not None:
            cache = _fork(cache)
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
        return replace(
            memory,
            prompt_states=memory.prompt_states.detach(),
            state=memory.state.detach(),
            logits=memory.logits.detach(),
            cache=cache,
        )

    def _forward(
        self,
        tokens: Int[Tensor, "batch new"],
        mask: Tensor,
        positions: Int[Tensor, "batch new"],
        cache: DynamicCache | None,
        keep: int,
    ) -> tuple[Float[Tensor, "batch new hidden"], Float[Tensor, "batch keep vocab"]]:
        """Returns the last states of the new tokens, and the logits of the last `keep` of them.

        Args:
            tokens: the new tokens.
            mask: 1 for tokens and 0 for padding, shape (batch, length); or what is added to the attention's scores,
                shape (batch, 1, new, length).
            positions: of the new tokens.
            cache: what was read before; None if nothing was.
            keep: how many logits are needed.
        """
        extra: dict[str, Any] = {"position_ids": positions} if self._takes_positions else {}
        if self._keeps_logits:
            extra["logits_to_keep"] = keep
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
            output_hidden_states=True,
            **extra,
        )
        return output.hidden_states[-1], output.logits[:, -keep:]

    def _plain_now(self) -> bool:
        # Under gradient checkpointing a cache comes back empty, with only a warning.
        return self.plain or (
            self.training and any(getattr(part, "gradient_checkpointing", False) for part in self.model.modules())
        )

    # ---- tokens

    def collate(
        self, prompts: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"]]:
        """Returns prompts as one batch, padded on the left, and its mask."""
        length = max(len(prompt) for prompt in prompts)
        tokens = torch.full((len(prompts), length), self.pad_id, dtype=torch.long)
        mask = torch.zeros(len(prompts), length, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            tokens[row, length - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
            mask[row, length - len(prompt) :] = True
        return tokens, mask

    def tokenize_prompts(self, texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Returns each text's tokens (the begin token first, if the model has one) and their spans of characters."""
        if not texts:
            return []
        # The model's own limit is the template's affair: it cuts fields, the tokenizer would cut the template.
        encoded = self.tokenizer(
            texts, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        prefix = self._prompt_prefix
        return [
            (prefix + ids, offsets)
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    def symbol_id(self, character: str) -> int:
        """Returns the one token of a digit, a sign or a point: the bare piece, the prefixed one, or an added one."""
        vocabulary = self.tokenizer.get_vocab()
        for piece in (character, f"▁{character}", f"##{character}", f"Ġ{character}"):
            if piece in vocabulary:
                return int(vocabulary[piece])
        return self.add_token(character)

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of each label's word, with a leading space if that takes no more tokens."""
        spaced, bare = (
            [self.tokenizer(space + word.strip(), add_special_tokens=False)["input_ids"] for word in words]
            for space in (" ", "")
        )
        return spaced if sum(map(len, spaced)) <= sum(map(len, bare)) else bare

    def text_of(self, ids: Sequence[int]) -> str:
        """Returns the text of written tokens, up to the end token."""
        kept = list(ids)
        if self.end_id in kept:
            kept = kept[: kept.index(self.end_id)]
        return str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip()

    def add_token(self, piece: str) -> int:
        """Returns the id of a token that the vocabulary lacked, with a row of its own in the embeddings."""
        self.tokenizer.add_tokens([piece])
        token = int(self.tokenizer.convert_tokens_to_ids(piece))
        rows = self.model.get_input_embeddings().weight.shape[0]
        if token >= rows:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(token)  # the new row depends on its token alone: the same after a reload
                self.model.resize_token_embeddings(token + 1, mean_resizing=False)
        if token not in self.added_token_ids:
            self.added_token_ids.append(token)
        return token

    # ---- the check at load

    @torch.no_grad()
    def choose_road(self) -> None:
        """Confirms on random tokens that padding, cache and positions are right, or falls back to the plain road.

        Raises:
            BackboneError: even the plain road disagrees with one unpadded forward, as with a model that is not
                causal. It would be silently wrong.
        """
        with dropout_off(self):
            try:
                disagreement = self._disagreement()
            except Exception:  # a family that keeps another kind of memory breaks on this one (Mamba)
                disagreement = float("inf")
            if disagreement <= self._tolerance():
                self.masks_trees = self.masks_trees and self._tree_disagreement() <= self._tolerance()
                self.linear_head = self._head_disagreement() <= self._tolerance()
                return
            self.plain, self.masks_trees = True, False
            disagreement = self._disagreement()
        if not disagreement <= self._tolerance():
            raise BackboneError(
                "Expected a causal language model whose states do not depend on padding or on later tokens, found "
                f"{type(self.model).__name__}, whose states differ by {disagreement:.2g} (relative). "
                "Choose a decoder-only model, such as a Llama, Qwen or GPT-2."
            )

    def _tolerance(self) -> float:
        return TOLERANCE.get(next(self.model.parameters()).dtype, 1e-3)

    def _disagreement(self) -> float:
        """Returns the largest relative difference between reading and writing padded rows, and plain forwards."""
        generator = torch.Generator().manual_seed(0)
        device = next(self.model.parameters()).device
        rows = self.model.get_input_embeddings().weight.shape[0]
        prompts = [torch.randint(rows, (length,), generator=generator).tolist() for length in (7, 3)]
        target = torch.randint(rows, (2, 3), generator=generator).to(device)
        tokens, mask = (part.to(device) for part in self.collate(prompts))
        memory = self.read(tokens, mask)
        written = self.write(memory, target, torch.ones_like(target, dtype=torch.bool))
        worst = 0.0
        for row, prompt in enumerate(prompts):
            alone = torch.cat([torch.tensor(prompt, device=device), target[row]]).unsqueeze(0)
            # The model's own mask and positions, which some families count from another number than 0 (RoBERTa).
            reference = self.model(input_ids=alone, use_cache=False, output_hidden_states=True).hidden_states[-1]
            expected = reference[0, len(prompt) - 1 :].float()
            difference = (written.states[row].float() - expected).norm() / expected.norm()
            worst = max(worst, float(difference)) if bool(difference == difference) else float("inf")
        return worst

    def _head_disagreement(self) -> float:
        """Returns the largest relative difference between the logits and a linear map of the states."""
        head = self.model.get_output_embeddings()
        if not self._keeps_logits or type(head) is not nn.Linear:
            return float("inf")
        rows = self.model.get_input_embeddings().weight.shape[0]
        tokens = torch.randint(rows, (1, 5), generator=torch.Generator().manual_seed(2)).to(head.weight.device)
        states, logits = self._forward(tokens, torch.ones_like(tokens), _positions(tokens >= 0), None, keep=5)
        expected = logits[..., : len(head.weight)].float()
        found = self._some_logits(states, torch.arange(expected.shape[-1], device=tokens.device)).float()
        difference = float((found - expected).norm() / expected.norm())
        return difference if difference == difference else float("inf")

    def _tree_disagreement(self) -> float:
        """Returns the largest relative difference between a tree under its mask and its branches on their own."""
        generator = torch.Generator().manual_seed(1)
        device = next(self.model.parameters()).device
        rows = self.model.get_input_embeddings().weight.shape[0]
        prompts = [torch.randint(rows, (length,), generator=generator).tolist() for length in (7, 3)]
        tree = tuple(
            part.expand(2, *part.shape).to(device)
            for part in (
                torch.randint(rows, (5,), generator=generator),
                torch.tensor([1, 1, 2, 2, 2]),
                torch.tensor(
                    [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1]]
                ).bool(),
            )
        )
        memory = self.read(*(part.to(device) for part in self.collate(prompts)))
        expected = super().write_tree(memory, *tree).states.float()
        try:
            packed = replace(memory, cache=None)  # as under gradient checkpointing
            found = [self.write_tree(one, *tree).states.float() for one in (memory, packed)]
        except Exception:  # a family that takes no 4-D mask (Bloom)
            return float("inf")
        worst = max(float((one - expected).norm() / expected.norm()) for one in found)
        return worst if worst == worst else float("inf")


def _has_windows(config: Any) -> bool:
    """Returns whether some layer sees only the tokens near it."""
    layers = DynamicCache(config=config.get_text_config()).layers
    return any(getattr(layer, "is_sliding", False) for layer in layers)


def _positions(mask: Bool[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
    """Returns each token's position among its row's tokens; padding gets 0 or its neighbor's."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def _fork(cache: DynamicCache) -> DynamicCache:
    """Returns a cache that shares the tensors so far and grows apart."""
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork


def _prompt_prefix(tokenizer: Any) -> list[int]:
    """Returns the begin token if the model was trained with one before its texts."""
    begin = tokenizer.bos_token_id
    if begin is None:
        return []
    own = tokenizer("a")["input_ids"]
    # Some tokenizers name their end token as begin token and never write it (GPT-2); others write it (OPT).
    return [begin] if own[:1] == [begin] or begin != tokenizer.eos_token_id else []


def _max_positions(config: Any, tokenizer: Any) -> int:
    """Returns the most tokens that the model may see, by its config and its tokenizer."""
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    limits.append(getattr(tokenizer, "model_max_length", None))
    return min([int(limit) for limit in limits if limit and 0 < limit < UNLIMITED_POSITIONS] or [UNLIMITED_POSITIONS])
