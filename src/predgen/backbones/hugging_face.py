"""What all Hugging Face models share: their tokenizer, added tokens, limits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones.base import Backbone, Memory
from predgen.backbones.caches import detached, rows_of
from predgen.errors import BackboneError
from predgen.tables.template import SEPARATOR

# Largest relative difference of states between two roads that counts as equal.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 1e-1}
UNLIMITED_POSITIONS = 1_000_000
# Rotary positions that change with the longest row of a batch, beyond the length that the model was first trained for.
LENGTH_DEPENDENT = ("dynamic", "longrope")
# The same for weights of 4 or 8 bits, whose activations are rounded too.
QUANTIZED_TOLERANCE = 0.2
# What a chat template is filled with to see what it puts around a message.
MESSAGE = "predgen-message"
# What a separator of the template is where the model has no token for it; one character, as the separator is.
LINE_BREAK = "\n"


class HuggingFaceBackbone(Backbone):
    """A Hugging Face model and its tokenizer.

    Attributes:
        pads_left: where the padding of prompts is.
        splits_specials: whether the names of special tokens in a prompt are text; the frame around it has its own.
        max_positions: the most tokens that the model may see at once.
        pad_id: the token that stands for padding.
    """

    pads_left = False
    splits_specials = False
    max_positions: int
    pad_id: int
    # Tokens before a prompt, in the place of the template's separators (None for a line break), and after it.
    _prefix: list[int]
    _joint: list[int] | None = None
    _suffix: list[int]

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.added_token_ids = []

    @property
    def bare_model(self) -> Any:
        """The Hugging Face model without a PEFT wrapper around it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def is_quantized(self) -> bool:
        """Whether the weights have 4 or 8 bits."""
        return bool(getattr(self.bare_model, "is_quantized", False))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Moves or casts all parts but a model that must stay where it was loaded."""
        if not (recurse and self.is_placed):
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, part in self.named_children():
            if name != "model":
                part._apply(fn)  # type: ignore[no-untyped-call]
        return self

    @property
    def tolerance(self) -> float:
        """Largest relative difference of states that counts as equal in the type of the weights."""
        if self.is_quantized:
            return QUANTIZED_TOLERANCE
        return TOLERANCE.get(next(self.model.parameters()).dtype, 1e-3)

    def take(self, memory: Memory, rows: Int[Tensor, " taken"]) -> Memory:
        """Returns the memory of some of its rows, in the order given; a row may be taken several times."""
        parts = {
            name: getattr(memory, name)[rows]
            for name in ("prompt_states", "prompt_mask", "state", "logits", "tokens", "mask")
        }
        return replace(memory, **parts, cache=None if memory.cache is None else rows_of(memory.cache, rows))

    def detach(self, memory: Memory) -> Memory:
        """Returns the memory without its graph of gradients."""
        return replace(
            memory,
            prompt_states=memory.prompt_states.detach(),
            state=memory.state.detach(),
            logits=memory.logits.detach(),
            cache=None if memory.cache is None else detached(memory.cache),
        )

    def collate(
        self, prompts: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"]]:
        """Returns prompts as one padded batch and its mask."""
        length = max(len(prompt) for prompt in prompts)
        tokens = torch.full((len(prompts), length), self.pad_id, dtype=torch.long)
        mask = torch.zeros(len(prompts), length, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            place = slice(length - len(prompt), length) if self.pads_left else slice(0, len(prompt))
            tokens[row, place] = torch.tensor(prompt, dtype=torch.long)
            mask[row, place] = True
        return tokens, mask

    def tokenize_prompts(self, texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Returns each text's tokens, the model's special ones included, and the spans of those that are text."""
        if not texts:
            return []
        joint = self._joint
        if joint is None:
            texts, joint = [text.replace(SEPARATOR, LINE_BREAK) for text in texts], []
        pieces = [text.split(SEPARATOR) for text in texts]
        # The model's own limit is the template's affair: it cuts fields, the tokenizer would cut the template.
        encoded = self.tokenizer(
            [piece for row in pieces for piece in row],
            add_special_tokens=False,
            return_offsets_mapping=True,
            truncation=False,
            verbose=False,
            split_special_tokens=self.splits_specials,
        )
        parts = iter(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
        found = []
        for row in pieces:
            ids, spans, start = list(self._prefix), [], 0
            for place, piece in enumerate(row):
                own, offsets = next(parts)
                ids += [*(joint if place else ()), *own]
                spans += [(start + first, start + last) for first, last in offsets]
                start += len(piece) + 1
            found.append((ids + self._suffix, spans))
        return found

    @property
    def frame(self) -> dict[str, Any]:
        """What stands around prompts, as JSON holds it: an artifact keeps it, whatever becomes of the base's files."""
        return {
            "prefix": self._prefix,
            "joint": self._joint,
            "suffix": self._suffix,
            "splits_specials": self.splits_specials,
        }

    def use_frame(self, frame: dict[str, Any]) -> None:
        """Puts around prompts what `frame` had."""
        self._prefix, self._joint, self._suffix = frame["prefix"], frame["joint"], frame["suffix"]
        self.splits_specials = frame["splits_specials"]

    def use_chat_template(self) -> None:
        """Wraps each prompt as a user's message, as the model was trained to be asked.

        Raises:
            BackboneError: the tokenizer has no chat template, or one that does not show the message.
        """
        if not getattr(self.tokenizer, "chat_template", None):
            raise BackboneError(
                "Expected an instruct model with a chat template, found a tokenizer without one. Leave chat_template "
                "out."
            )
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": MESSAGE}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # where a template knows it, the answer stands at once (Qwen3)
        )
        parts = text.split(MESSAGE)
        if len(parts) != 2:
            raise BackboneError(
                f"Expected a chat template that shows a message once, found it {len(parts) - 1} times. Leave "
                "chat_template out."
            )
        before, after = (self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts)
        self._prefix, self._suffix = before, [*after, *self._suffix]
        self.splits_specials = True  # no text may close the user's turn

    def checkpoint_activations(self) -> None:
        """Lets the model compute its activations again in the backward pass instead of keeping them.

        Raises:
            BackboneError: it cannot.
        """
        model = self.bare_model
        if not getattr(model, "supports_gradient_checkpointing", False):
            raise BackboneError(
                f"Expected a model that can checkpoint its activations, found {type(model).__name__}, which cannot. "
                "Leave gradient_checkpointing out."
            )
        # The method's name since version 5.23 of transformers, and before.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        # Not reentrant: with frozen embeddings the other kind would find no gradient to go on from.
        enable({"use_reentrant": False})

    def symbol_id(self, character: str) -> int:
        """Returns the one token of a digit, a sign or a point: the bare piece, the prefixed one, or an added one."""
        piece = self.piece_of(character)
        return self.add_token(character) if piece is None else piece

    def piece_of(self, character: str) -> int | None:
        """Returns the one token of a character that the tokenizer's vocabulary has, bare or prefixed."""
        vocabulary = self.tokenizer.get_vocab()
        for piece in (character, f"▁{character}", f"##{character}", f"Ġ{character}"):
            if piece in vocabulary:
                return int(vocabulary[piece])
        return None

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

    def special_id(self, name: str) -> int | None:
        """Returns a special token of the tokenizer, if the model has a row for it.

        Args:
            name: such as `eos_token_id`; a token that was added to the tokenizer alone has no row.
        """
        token = getattr(self.tokenizer, name)
        rows = self.model.get_input_embeddings().weight.shape[0]
        return token if token is not None and token < rows else None


def config_of(config: Any, part: Literal["encoder", "decoder"]) -> Any:
    """Returns the config of one side of a model; most families have one for both."""
    own = getattr(config, part, None)
    return config.get_text_config(**{part: True}) if own is None else own


def special_frame(tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    """Returns the special tokens that a tokenizer puts before a text, between two texts, and after them."""

    def around(*texts: str) -> tuple[list[int], list[bool]]:
        encoded = tokenizer(*texts, return_special_tokens_mask=True)
        return encoded["input_ids"], [bool(one) for one in encoded["special_tokens_mask"]]

    ids, special = around("a")
    first, last = special.index(False), len(special) - special[::-1].index(False)
    prefix, suffix = ids[:first], ids[last:]
    ids, special = around("a", "a")
    text = ids[len(prefix) : len(ids) - len(suffix)]
    own = special[len(prefix) : len(ids) - len(suffix)]
    return prefix, [token for token, is_special in zip(text, own, strict=True) if is_special], suffix


def positions_of(mask: Bool[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
    """Returns each token's position among its row's tokens; padding gets 0 or its neighbor's."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def max_positions_of(config: Any, tokenizer: Any) -> int:
    """Returns the most tokens that a model may see at once, by its config and its tokenizer."""
    names = (
        "max_position_embeddings",
        "n_positions",
        "max_encoder_position_embeddings",
        "max_decoder_position_embeddings",
    )
    limits = [getattr(config, name, None) for name in names]
    limits.append(getattr(tokenizer, "model_max_length", None))
    rotary = getattr(config, "rope_parameters", None) or {}
    for one in (rotary, *rotary.values()):  # one for all layers, or one for each kind
        if isinstance(one, dict) and one.get("rope_type") in LENGTH_DEPENDENT:
            limits.append(one.get("original_max_position_embeddings"))
    return min([int(limit) for limit in limits if limit and 0 < limit < UNLIMITED_POSITIONS] or [UNLIMITED_POSITIONS])


def kept_of(
    logits: Float[Tensor, "*batch vocab"], vocabulary: Int[Tensor, " kept"] | None
) -> Float[Tensor, "*batch kept"]:
    """Returns the logits of some tokens; of all if none are named."""
    return logits if vocabulary is None else logits[..., vocabulary]


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """Returns |found − expected| / |expected|, in Euclidean norms; infinite where it is no number."""
    difference = float((found.float() - expected.float()).norm() / expected.float().norm())
    return difference if difference == difference else float("inf")
