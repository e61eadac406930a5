"""Encoder-decoder language models, such as T5, BART and T5Gemma."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from predgen.backbones.attention_windows import AttentionWindows
from predgen.backbones.configs import config_of, has_code_for, max_positions_of
from predgen.backbones.cross_attending import CrossAttendingBackbone, Layout
from predgen.backbones.prompts import PromptTokens, SpecialTokens
from predgen.backbones.target_tokens import TokenizerTokens, special_id
from predgen.errors import BackboneError


class EncoderDecoderBackbone(CrossAttendingBackbone):
    """A sequence-to-sequence language model.

    Args:
        model: a Hugging Face model with a language model head.
        tokenizer: its tokenizer.
        cached: take the cached path where it is exact; if not, always take the uncached path.
    """

    title = "encoder-decoder"
    loader = AutoModelForSeq2SeqLM
    class_names = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    def __init__(self, model: Any, tokenizer: Any, *, cached: bool = True) -> None:
        super().__init__(model, cached=cached)
        encoder, decoder = config_of(model.config, "encoder"), config_of(model.config, "decoder")
        self.hidden_size = int(decoder.hidden_size)
        self.prompt_size = int(encoder.hidden_size)
        self.max_positions = max_positions_of(encoder, tokenizer)
        self.max_written = max_positions_of(decoder, None)
        self.target_tokens = TokenizerTokens(model, tokenizer)
        self.end_id = self.target_tokens.end_id
        pad_id = special_id(model, tokenizer, "pad_token_id")
        self.start_ids = _start_ids(model, tokenizer)
        special_tokens = replace(SpecialTokens.around_texts(tokenizer), joint=None)
        self.prompts = PromptTokens(tokenizer, special_tokens, pad_id=pad_id or 0, pads_left=False)

    @classmethod
    def handles(cls, config: Any) -> bool:
        """Returns whether a model of this config is a sequence-to-sequence language model."""
        known = config.model_type in cls.class_names or has_code_for(config, cls.loader)
        return bool(config.is_encoder_decoder and known)

    def encode(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"], *, every_layer: bool = False
    ) -> Any:
        """Returns the encoder's output for a batch of prompts."""
        encoder = self.bare_model.get_encoder()
        return encoder(input_ids=tokens, attention_mask=mask.long(), output_hidden_states=every_layer)

    def decode(
        self,
        tokens: Int[Tensor, "batch new"],
        prompt_states: Float[Tensor, "batch prompt prompt_hidden"],
        prompt_mask: Bool[Tensor, "batch prompt"],
        cache: EncoderDecoderCache | None,
        layout: Layout | None = None,
    ) -> tuple[Sequence[Float[Tensor, "batch new hidden"]], Float[Tensor, "batch new vocab"]]:
        """Returns the decoder's states of some tokens, and the logits, as the model's own output path has them."""
        output = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=prompt_states),
            attention_mask=prompt_mask.long(),
            past_key_values=cache,
            use_cache=cache is not None,
            output_hidden_states=True,
            **({"decoder_input_ids": tokens} if layout is None else self._placed(tokens, layout)),
        )
        return output.decoder_hidden_states, output.logits

    @property
    def prompt_embeddings(self) -> nn.Module:
        """The encoder's embeddings."""
        module: nn.Module = self.bare_model.get_encoder().get_input_embeddings()
        return module

    def freeze_writer(self) -> None:
        """Freezes the decoder and the output matrix, but not the weights that they share with the encoder."""
        shared = {id(parameter) for parameter in self.bare_model.get_encoder().parameters()}
        for parameter in self.parameters():
            if id(parameter) not in shared:
                parameter.requires_grad_(False)

    # ---- positions of a tree: each family sets them in its own way

    def _sets_positions(self) -> bool:
        if self._takes_positions:
            return self._windows is not None
        return self._relative_attention is not None or self._position_embeddings is not None

    @property
    def _windows(self) -> AttentionWindows | None:
        return AttentionWindows.of(config_of(self.bare_model.config, "decoder"))

    @property
    def _decoder(self) -> Any:
        return self.bare_model.get_decoder()

    @property
    def _takes_positions(self) -> bool:
        return "decoder_position_ids" in inspect.signature(self.bare_model.forward).parameters

    @property
    def _relative_attention(self) -> Any | None:
        """The attention whose relative positions all layers take (T5, mT5); None if each layer has its own."""
        attentions = [
            module for module in self._decoder.modules() if getattr(module, "has_relative_attention_bias", False)
        ]
        return attentions[0] if len(attentions) == 1 else None

    @property
    def _position_embeddings(self) -> Tensor | None:
        """The rows that are added to the tokens' embeddings (BART, mBART, Pegasus), from position 0 on."""
        module = getattr(self._decoder, "embed_positions", None)
        rows = getattr(module, "weight", getattr(module, "weights", None))
        return None if rows is None else rows[getattr(module, "offset", 0) :]

    def _placed(self, tokens: Int[Tensor, "batch token"], layout: Layout) -> dict[str, Any]:
        """Returns the decoder's arguments for tokens that do not simply follow each other."""
        if self._takes_positions:
            positions, windows = layout.positions, self._windows
            assert windows is not None  # or no tree is written in one forward
            return {
                "decoder_input_ids": tokens,
                "decoder_position_ids": positions,
                "decoder_attention_mask": windows.masks(layout.sees, positions, positions, self._decoder.dtype),
            }
        scores = layout.scores(self._decoder.dtype)
        index = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
        attention = self._relative_attention
        if attention is not None:
            # The model adds the bias of the tokens' indexes; this change replaces it by the bias of their positions.
            change = _bias(attention, layout.positions) - _bias(attention, index)
            return {"decoder_input_ids": tokens, "decoder_attention_mask": scores + change.to(scores.dtype)}
        rows = self._position_embeddings
        assert rows is not None  # or no tree is written in one forward
        embedded = self._decoder.embed_tokens(tokens) + rows[layout.positions] - rows[index]
        return {"decoder_inputs_embeds": embedded, "decoder_attention_mask": scores}

    def _alone(self, prompt: Int[Tensor, "1 prompt"], target: Int[Tensor, "1 target"]) -> Float[Tensor, "1 target h"]:
        output = self.model(input_ids=prompt, decoder_input_ids=target, use_cache=False, output_hidden_states=True)
        states: Tensor = output.decoder_hidden_states[-1]
        return states


def _bias(attention: Any, positions: Int[Tensor, "batch token"]) -> Float[Tensor, "batch head token token"]:
    """Returns what an attention of T5 adds to its scores for tokens at some positions."""
    buckets = attention._relative_position_bucket(
        positions.unsqueeze(1) - positions.unsqueeze(2),
        bidirectional=False,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    return nn.functional.embedding(buckets, attention.relative_attention_bias.weight).permute(0, 3, 1, 2)


def _start_ids(model: Any, tokenizer: Any) -> list[int]:
    """Returns the tokens that the model was trained to begin its texts with.

    Raises:
        BackboneError: neither the configs nor the tokenizer say which.
    """
    generation = getattr(model, "generation_config", None)

    def setting(name: str) -> int | None:
        value = getattr(model.config, name, None)
        return value if value is not None else getattr(generation, name, None)

    start = setting("decoder_start_token_id")
    for token in (tokenizer.bos_token_id, tokenizer.pad_token_id):
        start = token if start is None else start
    if start is None:
        raise BackboneError(
            "Expected a model that says how its decoder starts (decoder_start_token_id), found one that does not. Set "
            "it in the model's config.json."
        )
    forced = setting("forced_bos_token_id")
    return [start] if forced is None else [start, forced]
