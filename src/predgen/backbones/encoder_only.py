"""Encoder-only language models, such as BERT, with a small decoder of their own as Writer.

The Writer attends to the states of all prompt tokens. Its vocabulary is the target's own symbols: a start, an end, and
the pieces that numbers and labels are written with. What can be copied from the encoder is: the symbols' embeddings,
and the encoder's last layers where they are built as a BERT's are; cross-attention starts from the same layers'
self-attention (docs/developers/log.md has what else was tried).
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import BertConfig, BertLMHeadModel, EncoderDecoderCache

from predgen.backbones.cross_attending import CrossAttendingBackbone, Layout
from predgen.backbones.hugging_face import max_positions_of, special_frame

WRITER_LAYERS = 2
WRITER_POSITIONS = 512
START, END = 0, 1
# What a BERT calls its parts, by what others call them.
_SAME_PARTS = (
    (r"^transformer\.layer\.", "encoder.layer."),  # DistilBERT, and below
    (r"\.attention\.(attn\.)?(q|q_lin|self\.query_proj)\.", ".attention.self.query."),
    (r"\.attention\.(attn\.)?(k|k_lin|self\.key_proj)\.", ".attention.self.key."),
    (r"\.attention\.(attn\.)?(v|v_lin|self\.value_proj)\.", ".attention.self.value."),
    (r"\.attention\.(attn\.o|out_lin)\.", ".attention.output.dense."),  # MPNet, DistilBERT
    (r"\.attention\.LayerNorm\.|\.sa_layer_norm\.", ".attention.output.LayerNorm."),
    (r"\.ffn\.lin1\.", ".intermediate.dense."),
    (r"\.ffn\.lin2\.", ".output.dense."),
    (r"\.output_layer_norm\.", ".output.LayerNorm."),
)


class EncoderOnlyBackbone(CrossAttendingBackbone):
    """An encoder with a Writer beside it.

    Args:
        model: a Hugging Face encoder, without a head.
        tokenizer: its tokenizer.
        plain: always take the plain road.

    Attributes:
        writer: the decoder. A target's token is a row of its embeddings.
        pieces: the encoder's token that each row stands for; None for a symbol that the encoder's vocabulary lacks.
    """

    end_id = END
    splits_specials = True  # a "[SEP]" in a text would be taken for the end of it
    max_written = WRITER_POSITIONS

    def __init__(self, model: Any, tokenizer: Any, *, plain: bool = False) -> None:
        super().__init__(model, tokenizer, plain=plain)
        config = model.config
        self.hidden_size = self.prompt_size = int(config.hidden_size)
        self.max_positions = _max_positions(model, tokenizer)
        pad_id = self.special_id("pad_token_id")
        self.pad_id = pad_id if pad_id is not None else 0
        self.start_ids = [START]
        self._prefix, self._joint, self._suffix = special_frame(tokenizer)
        takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self._tells_texts_apart = (
            takes_types
            and "token_type_ids" in tokenizer.model_input_names
            and int(getattr(config, "type_vocab_size", None) or 0) > 1
            and bool(self._joint)
        )
        # The start is the token that begins texts, the end the one that ends them.
        self.pieces: list[int | None] = [next(iter(frame), None) for frame in (self._prefix, self._suffix)]
        self._symbols: dict[str, int] = {}
        # In float32 whatever the encoder's type is: it is trained in every case, and small steps would be rounded away.
        self.writer = BertLMHeadModel(_writer_config(config, len(self.pieces))).to(model.device)
        self.start_writer()

    def encode(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"], *, every_layer: bool = False
    ) -> Any:
        """Returns the encoder's output for a batch of prompts."""
        extra = {"token_type_ids": self._types_of(tokens, mask)} if self._tells_texts_apart else {}
        return self.model(input_ids=tokens, attention_mask=mask.long(), output_hidden_states=every_layer, **extra)

    def _types_of(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
    ) -> Int[Tensor, "batch prompt"]:
        """Returns 0 for the first text, with the separator that ends it, and 1 for what comes after."""
        assert self._joint is not None
        ends = tokens == self._joint[-1]
        return ((ends.cumsum(dim=1) - ends.long()) > 0).long() * mask.long()

    def decode(
        self,
        tokens: Int[Tensor, "batch new"],
        prompt_states: Float[Tensor, "batch prompt hidden"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        cache: EncoderDecoderCache | None,
        layout: Layout | None = None,
    ) -> tuple[Sequence[Float[Tensor, "batch new hidden"]], Float[Tensor, "batch new vocab"]]:
        """Returns the Writer's states of some tokens, at every layer, and the logits that follow them."""
        placed: dict[str, Any] = {}
        if layout is not None:
            placed = {"position_ids": layout.positions, "attention_mask": layout.scores(self.writer.dtype)}
        output = self.writer(
            input_ids=tokens,
            encoder_hidden_states=prompt_states.to(self.writer.dtype),
            encoder_attention_mask=prompt_mask.long(),
            past_key_values=cache,
            use_cache=cache is not None,
            output_hidden_states=True,
            **placed,
        )
        return output.hidden_states, output.logits

    def _sets_positions(self) -> bool:
        return True

    def _alone(self, prompt: Int[Tensor, "1 prompt"], target: Int[Tensor, "1 target"]) -> Float[Tensor, "1 target h"]:
        # Without types, which are all 0 by default, as they are here unless a separator happens to be drawn.
        states = self.prompt_states(prompt, torch.ones_like(prompt, dtype=torch.bool))
        written: Tensor = self.writer(
            input_ids=target,
            encoder_hidden_states=states.to(self.writer.dtype),
            use_cache=False,
            output_hidden_states=True,
        ).hidden_states[-1]
        return written

    # ---- the Writer's vocabulary

    @property
    def target_vocabulary(self) -> int:
        """The rows of the Writer's embeddings."""
        return len(self.pieces)

    def symbol_id(self, character: str) -> int:
        """Returns the Writer's token of a digit, a sign or a point."""
        if character not in self._symbols:
            self._symbols[character] = self._row_of(self.piece_of(character))
        return self._symbols[character]

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the Writer's tokens of each label's word."""
        return [[self._row_of(piece) for piece in ids] for ids in super().word_ids(words)]

    def text_of(self, ids: Sequence[int]) -> str:
        """Returns the text of written tokens, up to the end token."""
        kept = list(ids)
        if END in kept:
            kept = kept[: kept.index(END)]
        characters = {row: character for character, row in self._symbols.items()}
        pieces = [self.pieces[row] for row in kept]
        if all(row in characters for row in kept):  # a number: its digits stand together
            return "".join(characters[row] for row in kept)
        return str(self.tokenizer.decode([piece for piece in pieces if piece is not None])).strip()

    def _row_of(self, piece: int | None) -> int:
        """Returns the row of a piece of the encoder's vocabulary, a new one if it has none yet."""
        if piece is not None and piece in self.pieces[END + 1 :]:
            return self.pieces.index(piece, END + 1)
        self.pieces.append(piece)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(len(self.pieces))
            self.writer.resize_token_embeddings(len(self.pieces), mean_resizing=False)
        self._copy_rows()
        return len(self.pieces) - 1

    # ---- the Writer's start

    @torch.no_grad()
    def start_writer(self) -> None:
        """Draws the Writer from torch's random state, then copies what the encoder has."""
        fresh = BertLMHeadModel(self.writer.config)
        self.writer.load_state_dict(fresh.state_dict())
        self._copied = _copied(self.bare_model, self.writer)
        for name, values in self._copied.items():
            self.writer.get_parameter(name).copy_(values)
        self._copy_rows()

    @torch.no_grad()
    def _copy_rows(self) -> None:
        """Copies the embeddings of the pieces that the encoder knows, where they are as wide as the states."""
        source = self.bare_model.get_input_embeddings().weight
        rows = self.writer.get_input_embeddings().weight
        if source.shape[1] == rows.shape[1]:
            for row, piece in enumerate(self.pieces):
                if piece is not None:
                    rows[row] = source[piece]

    def new_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters of the Writer that were not copied."""
        return [parameter for name, parameter in self.writer.named_parameters() if name not in self._copied]

    def freeze_writer(self) -> None:
        """Keeps the Writer from being trained."""
        self.writer.requires_grad_(False)


def _writer_config(config: Any, vocabulary: int) -> BertConfig:
    """Returns the Writer's shape: the encoder's, with a few layers."""
    heads = int(config.num_attention_heads)
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=config.hidden_size,
        num_hidden_layers=min(WRITER_LAYERS, config.num_hidden_layers),
        num_attention_heads=heads,
        intermediate_size=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        hidden_act=getattr(config, "hidden_act", "gelu"),
        hidden_dropout_prob=getattr(config, "hidden_dropout_prob", 0.1),
        attention_probs_dropout_prob=getattr(config, "attention_probs_dropout_prob", 0.1),
        layer_norm_eps=getattr(config, "layer_norm_eps", 1e-12),
        max_position_embeddings=WRITER_POSITIONS,
        is_decoder=True,
        add_cross_attention=True,
        tie_word_embeddings=True,
    )


def _copied(encoder: Any, writer: BertLMHeadModel) -> dict[str, Tensor]:
    """Returns the Writer's parameters that the encoder has, by the Writer's names."""
    parts = {}
    for name, values in encoder.state_dict().items():
        for pattern, same in _SAME_PARTS:
            name = re.sub(pattern, same, name)
        parts[name] = values
    wanted = dict(writer.named_parameters())
    skipped = encoder.config.num_hidden_layers - writer.config.num_hidden_layers
    found = {}
    for name, parameter in wanted.items():
        source = re.sub(
            r"layer\.(\d+)\.", lambda match: f"layer.{int(match[1]) + skipped}.", name.removeprefix("bert.")
        )
        source = source.replace(".crossattention.", ".attention.")
        values = parts.get(source)
        if values is not None and "word_embeddings" not in name and values.shape == parameter.shape:
            found[name] = values
    return found


def _max_positions(model: Any, tokenizer: Any) -> int:
    """Returns the most tokens of a prompt; some families keep the first positions for padding (RoBERTa)."""
    limit = max_positions_of(model.config, tokenizer)
    for name, part in model.named_modules():
        if name.endswith("position_embeddings") and getattr(part, "padding_idx", None) is not None:
            limit = min(limit, part.num_embeddings - part.padding_idx - 1)
    return limit
