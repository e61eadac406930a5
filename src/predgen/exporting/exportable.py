"""What an export takes of a model: the predictor's parts, and its logits on random prompts."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.adapters import merged_copy
from predgen.backbones.prompts import control_ids
from predgen.errors import BackboneError, ConfigError
from predgen.measures.calibration import Calibration
from predgen.methods import Predictor
from predgen.methods.heads import Head
from predgen.models.contents import Contents
from predgen.models.model import Model

# Lengths of the random prompts on which logits are compared: their batch has padding of several sizes.
LENGTHS = (9, 2, 5)
# The largest difference of logits that rounding makes, as a share of the largest logit, at least of 1: with weights of
# 32 bits, and with fewer, where the model itself rounds its states.
TOLERANCE, TOLERANCE_OF_FEWER_BITS = 1e-4, 5e-2


@dataclass(frozen=True)
class Exportable:
    """A predictor of one field.

    Attributes:
        predictor: the method.
        contents: its settings.
        head: what its outputs mean.
        calibration: what tempers its logits; None for nothing.
    """

    predictor: Predictor
    contents: Contents
    head: Head[Any]
    calibration: Calibration | None

    @classmethod
    def of(cls, model: Model) -> "Exportable":
        """Returns a model's parts.

        Raises:
            ConfigError: it is no predictor, or one of several targets, or its weights have few bits, or it has a
                threshold.
        """
        method = model.method
        if not isinstance(method, Predictor):
            raise ConfigError(
                f"Expected a model of the method predictor, found one of {model.config.model.method}, whose answer is "
                "written token by token. Fit with --method predictor to export it."
            )
        if len(method.fields) > 1:
            raise ConfigError(
                f"Expected one target, found a record of {len(method.fields)}. Fit a model for each to export them."
            )
        if method.backbone.is_quantized:
            raise ConfigError(
                f"Expected weights of 16 or 32 bits, found {model.config.model.quantization}. Fit without quantization "
                "to export the model."
            )
        if model.config.model.threshold != "none":
            raise ConfigError(
                "Expected answers that are the likeliest label, as other programs read logits, found a threshold. "
                "Export with --no-threshold (predgen.load(…, threshold=False)), and apply it to the probabilities."
            )
        (head,), (name,) = method.fields, model.target.fields
        calibration = model.contents.calibrations.get(name) if head.tempers_logits else None
        return cls(method, model.contents, head, calibration)

    @cached_property
    def merged(self) -> Any:
        """A copy of the Hugging Face model with its update merged, in float32 and on the CPU."""
        return merged_copy(self.predictor.backbone)

    @property
    def pooling(self) -> str:
        """The name of the pooling."""
        name = self.contents.config.model.pooling
        return self.predictor.backbone.pooling if name == "auto" else name

    @cached_property
    def pad_id(self) -> int:
        """The token of padding, which no prompt ends with: classes of transformers tell by it where a prompt ends.

        Raises:
            BackboneError: the tokenizer has none.
        """
        backbone = self.predictor.backbone
        usual = backbone.pad_id
        if backbone.pooling == "mean":  # an encoder reads its mask, and may count its positions by this token
            return usual
        tokenizer, last = backbone.tokenizer, backbone.prompts.special_tokens.suffix[-1:]
        named = (usual, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id)
        controls = control_ids(tokenizer)
        for token in (*named, *sorted(controls)):
            if token in controls and token not in last and token < backbone.num_prompt_tokens:
                return int(token)
        raise BackboneError(
            "Expected a tokenizer with a special token that no prompt ends with, for padding, found none. Export is "
            "not possible with this backbone."
        )

    @property
    def uniform_fraction(self) -> float:
        """How much of the calibrated probabilities is the same for every label."""
        return 0.0 if self.calibration is None else self.calibration.uniform_fraction

    def tempered(self, logits: Float[Tensor, "batch logit"]) -> Float[Tensor, "batch logit"]:
        """Returns logits divided by the calibration's temperature; it is 1 for numbers."""
        return logits if self.calibration is None else logits / self.calibration.temperature

    def random_prompts(self) -> tuple[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"]]:
        """Returns prompts of random tokens, padded on the right, and their mask."""
        backbone = self.predictor.backbone
        generator = torch.Generator().manual_seed(0)
        most = min(backbone.num_prompt_tokens, len(backbone.tokenizer))
        tokens = torch.randint(most - 1, (len(LENGTHS), max(LENGTHS)), generator=generator)
        tokens += (tokens >= self.pad_id).long()  # every token but that of padding
        mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
        return tokens.masked_fill(~mask, self.pad_id), mask

    @torch.no_grad()
    def own_outputs(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
    ) -> Float[Tensor, "batch output"]:
        """Returns the outputs that the model itself has for prompts, each read alone, without padding."""
        predictor = self.predictor
        rows = [row[kept].unsqueeze(0).to(predictor.device) for row, kept in zip(tokens, mask, strict=True)]
        outputs = [
            predictor.head(
                predictor.backbone.prompt_states(row, torch.ones_like(row).bool()), torch.ones_like(row).bool()
            )
            for row in rows
        ]
        return torch.cat(outputs).cpu()

    def check(self, found: Float[Tensor, "batch logit"], expected: Float[Tensor, "batch logit"], what: str) -> None:
        """Refuses logits that are not the model's own.

        Args:
            found: of what was exported, for the random prompts.
            expected: the model's own.
            what: what was exported.

        Raises:
            BackboneError: they differ by more than rounding.
        """
        has_32_bits = self.predictor.backbone.bare_model.dtype == torch.float32
        tolerance = TOLERANCE if has_32_bits else TOLERANCE_OF_FEWER_BITS
        scale = self.head.scale
        largest = max(scale.deviation, float((expected - scale.mean).abs().max()))
        difference = float((found - expected).abs().max()) / largest
        if not difference <= tolerance:
            raise BackboneError(
                f"Expected {what} with the logits of the model, found a relative difference of {difference:.1e} on "
                f"random prompts. A {self.merged.config.model_type} cannot be exported so."
            )
