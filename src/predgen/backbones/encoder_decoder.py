"""Encoder-decoder language models, such as T5, BART and T5Gemma."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from predgen.backbones.cross_attending import CrossAttendingBackbone, Layout
from predgen.backbones.hugging_face import config_of, max_positions_of, special_frame
from predgen.backbones.reaches import Reaches
from predgen.errors import BackboneError


class EncoderDecoderBackbone(CrossAttendingBackbone):
    """A sequence-to-sequence language model.

    Args:
        model: a Hugging Face model with a language model head.
        tokenizer: its tokenizer.
        plain: always take the plain road.
    """

    def __init__(self, model: Any, tokenizer: Any, *, plain: bool = False) -> None:
        super().__init__(model, tokenizer, plain=plain)
        config = model.config
        self.hidden_size = int(config_of(config, "decoder").hidden_size)
        self.prompt_size = int(config_of(config, "encoder").hidden_size)
        self.max_positions = max_positions_of(config_of(config, "encoder"), tokenizer)
        self.max_written = max_positions_of(config_of(config, "decoder"), None)
        eos_id = self.special_id("eos_token_id")
        self.end_id = eos_id if eos_id is not None else self.add_token(tokenizer.eos_token or "<|end|>")
        pad_id = self.special_id("pad_token_id")
        self.pad_id = pad_id if pad_id is not None else 0
        self.start_ids = _start_ids(model, tokenizer)
        self._prefix, _, self._suffix = special_frame(tokenizer)

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
    def target_vocabulary(self) -> int:
        """The rows of the embeddings."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    def freeze_writer(self) -> None:
        """Keeps the decoder and the output matrix from being trained, but not what they share with the encoder."""
        shared = {id(parameter) for parameter in self.bare_model.get_encoder().parameters()}
        for parameter in self.parameters():
            if id(parameter) not in shared:
                parameter.requires_grad_(False)

    # ---- positions of a tree: each family has its own way to be told them

    def _sets_positions(self) -> bool:
        if self._takes_positions:
            return self._reaches is not None
        return self._relative_attention is not None or self._position_embeddings is not None

    @property
    def _reaches(self) -> Reaches | None:
        return Reaches.of(config_of(self.bare_model.config, "decoder"))

    @property
    def _decoder(self) -> Any:
        return self.bare_model.get_decoder()

    @property
    def _takes_positions(self) -> bool:
        return "decoder_position_ids" in inspect.signature(self.bare_model.forward).parameters

    @property
    def _relative_attention(self) -> Any | None:
        """The one attention whose relative positions all layers take (T5, mT5); None if each layer has its own."""
        found = [part for part in self._decoder.modules() if getattr(part, "has_relative_attention_bias", False)]
        return found[0] if len(found) == 1 else None

    @property
    def _position_embeddings(self) -> Tensor | None:
        """The rows that are added to the tokens' embeddings (BART, mBART, Pegasus), from position 0 on."""
        module = getattr(self._decoder, "embed_positions", None)
        rows = getattr(module, "weight", getattr(module, "weights", None))
        return None if rows is None else rows[getattr(module, "offset", 0) :]

    def _placed(self, tokens: Int[Tensor, "batch token"], layout: Layout) -> dict[str, Any]:
        """Returns the decoder's arguments for tokens that do not simply follow each other."""
        if self._takes_positions:
            positions, reaches = layout.positions, self._reaches
            assert reaches is not None  # or no tree is written in one forward
            return {
                "decoder_input_ids": tokens,
                "decoder_position_ids": positions,
                "decoder_attention_mask": reaches.masks(layout.sees, positions, positions, self._decoder.dtype),
            }
        scores = layout.scores(self._decoder.dtype)
        index = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
        attention = self._relative_attention
        if attention is not None:
            # The model adds the bias of the tokens' indexes; this takes it away and puts theirs in its place.
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
        BackboneError: it does not say which.
    """
    generation = getattr(model, "generation_config", None)

    def setting(name: str) -> int | None:
        own = getattr(model.config, name, None)
        return own if own is not None else getattr(generation, name, None)

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
