"""Encoder-only language models, such as BERT, with a small decoder of their own as Writer.

The Writer attends to the states of all prompt tokens. Its vocabulary is the target's own symbols: a start, an end, and
the pieces that numbers and labels are written with. It starts as a copy of the encoder as far as it can: the symbols'
embeddings, and the encoder's last layers where they are built as a BERT's are; cross-attention starts from the same
layers' self-attention (docs/developers/log.md has what else was tried).
"""

import inspect
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, BertConfig, BertLMHeadModel, EncoderDecoderCache
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES, MODEL_MAPPING_NAMES

from predgen.backbones.configs import has_code_for, max_positions_of
from predgen.backbones.cross_attending import CrossAttendingBackbone, Layout
from predgen.backbones.prompts import PromptTokens, SpecialTokens
from predgen.backbones.target_tokens import END, START, WriterTokens, special_id
from predgen.backbones.template import Template

WRITER_LAYERS = 2
WRITER_POSITIONS = 512
# The names of a BERT's weights, by patterns of the names that other encoders give them.
_BERT_NAMES = (
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
        cached: take the cached path where it is exact; if not, always take the uncached path.

    Attributes:
        writer: the decoder. A target's token is a row of its embeddings.
    """

    title = "encoder-only, with a Writer of its own"
    loader = AutoModel
    class_names = MODEL_MAPPING_NAMES
    end_id = END
    max_written = WRITER_POSITIONS
    target_tokens: WriterTokens

    def __init__(self, model: Any, tokenizer: Any, *, cached: bool = True) -> None:
        super().__init__(model, cached=cached)
        config = model.config
        self.hidden_size = self.prompt_size = int(config.hidden_size)
        self.max_positions = _max_positions(model, tokenizer)
        self.start_ids = [START]
        # A "[SEP]" in a text would be taken for the end of the text.
        special_tokens = replace(SpecialTokens.around_texts(tokenizer), splits_specials=True)
        pad_id = special_id(model, tokenizer, "pad_token_id")
        self.prompts = PromptTokens(tokenizer, special_tokens, pad_id=pad_id or 0, pads_left=False)
        takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self._tells_texts_apart = (
            takes_types
            and "token_type_ids" in tokenizer.model_input_names
            and int(getattr(config, "type_vocab_size", None) or 0) > 1
            and bool(special_tokens.joint)
        )
        # The start is the token that begins texts, the end the token that ends them.
        start_and_end = [next(iter(tokens), None) for tokens in (special_tokens.prefix, special_tokens.suffix)]
        # In float32 whatever the encoder's type is: it is trained in every case, and small steps would be rounded away.
        self.writer = BertLMHeadModel(_writer_config(config, len(start_and_end))).to(model.device)
        self.target_tokens = WriterTokens(model, tokenizer, self.writer, start_and_end)
        self.start_writer()

    @classmethod
    def handles(cls, config: Any) -> bool:
        """Returns whether a model of this config is an encoder that was trained with masked tokens."""
        sees_all = not config.is_encoder_decoder and not getattr(config, "is_decoder", False)
        is_masked = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        return sees_all and (is_masked or has_code_for(config, AutoModelForMaskedLM))

    @classmethod
    def default_template(cls, inputs: Sequence[str], target: str) -> Template:
        """Returns the input columns as texts of their own: an encoder was trained on texts alone."""
        return Template.texts_alone(inputs)

    @property
    def tells_texts_apart(self) -> bool:
        """Whether the encoder knows types of tokens, and its tokenizer gives them."""
        return self._tells_texts_apart

    def encode(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"], *, every_layer: bool = False
    ) -> Any:
        """Returns the encoder's output for a batch of prompts."""
        extra = {"token_type_ids": self._types_of(tokens, mask)} if self._tells_texts_apart else {}
        return self.model(input_ids=tokens, attention_mask=mask.long(), output_hidden_states=every_layer, **extra)

    def _types_of(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
    ) -> Int[Tensor, "batch prompt"]:
        """Returns the token types: 0 for the first text and the separator that ends it, 1 for all later tokens."""
        joint = self.prompts.special_tokens.joint
        assert joint is not None  # or texts are not told apart
        ends = tokens == joint[-1]
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

    # ---- the Writer's start

    @torch.no_grad()
    def start_writer(self) -> None:
        """Draws the Writer from torch's random state, then copies the weights that the encoder has."""
        fresh = BertLMHeadModel(self.writer.config)
        self.writer.load_state_dict(fresh.state_dict())
        self._copied = _copied_from(self.bare_model, self.writer)
        for name, values in self._copied.items():
            self.writer.get_parameter(name).copy_(values)
        self.target_tokens.copy_embeddings()

    @property
    def added_writer(self) -> nn.Module:
        """The Writer."""
        writer: nn.Module = self.writer
        return writer

    def new_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters of the Writer that were not copied."""
        return [parameter for name, parameter in self.writer.named_parameters() if name not in self._copied]

    def freeze_writer(self) -> None:
        """Freezes the Writer."""
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


def _copied_from(encoder: Any, writer: BertLMHeadModel) -> dict[str, Tensor]:
    """Returns the encoder's weights that the Writer starts with, by the names of the Writer's parameters."""
    weights = {}
    for name, values in encoder.state_dict().items():
        for pattern, same in _BERT_NAMES:
            name = re.sub(pattern, same, name)
        weights[name] = values
    skipped = encoder.config.num_hidden_layers - writer.config.num_hidden_layers
    copied = {}
    for name, parameter in writer.named_parameters():
        source = re.sub(
            r"layer\.(\d+)\.", lambda match: f"layer.{int(match[1]) + skipped}.", name.removeprefix("bert.")
        )
        source = source.replace(".crossattention.", ".attention.")
        values = weights.get(source)
        if values is not None and "word_embeddings" not in name and values.shape == parameter.shape:
            copied[name] = values
    return copied


def _max_positions(model: Any, tokenizer: Any) -> int:
    """Returns the most tokens of a prompt; some families keep the first positions for padding (RoBERTa)."""
    limit = max_positions_of(model.config, tokenizer)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    return limit
