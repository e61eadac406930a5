"""An estimate of what a training step keeps for its gradients, from a model's shape.

The estimate counts, for each block of a transformer, the values that PyTorch's operations save for the backward pass
(after Korthikanti et al., arXiv 2205.05198, section 4, redone here for what these models do today):

    a norm        its input; of an RMS norm with trained weights also the normalized value, as it is written in Python;
                  the copy in float32 that it makes of a half-precision input
    linear maps   their input, once for those that share it: the norms' outputs, what attention gives back, and what the
                  last map of the feed-forward part reads. Under LoRA in another type, a copy for each map; and its r
                  values
    attention     queries and what it gives back; keys and values of every token that is seen; no matrix of scores where
                  the kernel is fused, else softmax's output, and with dropout the mask and what is left
    feed-forward  what its activation reads; if gated, also its output and the gate. An activation that is written out
                  in Python (gelu_new) keeps four values more
    dropout       a mask of its input's size, as a CPU keeps it (a GPU's has one byte a value)

Measured on the CPU with `saved_tensors_hooks` the estimate is within a factor of 1.3 for Llama, GPT-2, BERT, T5 and
BART shapes, in float32 and bfloat16, with each PEFT method and without (1.4 with DoRA;
tests/integration/test_memory_plan.py). It was not measured
on a GPU, where attention with dropout is fused too: there a BERT's or a T5's share should be smaller. Experts and
state-space layers are not modeled.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from predgen.backbones import Backbone

FLOAT32_BYTES = 4
_FEED_FORWARD = ("intermediate_size", "ffn_dim", "d_ff", "n_inner", "encoder_ffn_dim", "hidden_dim", "ffn_hidden_size")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "encoder_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads")
_HIDDEN_DROPOUT = ("hidden_dropout_prob", "resid_pdrop", "dropout", "dropout_rate", "hidden_dropout")
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attn_pdrop", "attention_dropout", "dropout_rate")
_INNER_DROPOUT = ("activation_dropout", "dropout_rate")
_ACTIVATION = ("hidden_act", "hidden_activation", "activation_function", "activation", "dense_act_fn")


@dataclass(frozen=True)
class Block:
    """One layer, in values for each token.

    Attributes:
        norms: the width of each norm.
        inputs: the width of what each linear map reads.
        outputs: the width of what each linear map writes.
        feed_forward: the inner width of the feed-forward part.
        gated: whether that part has a gate.
        cross: whether the block attends to a prompt as well.
    """

    norms: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    feed_forward: int
    gated: bool
    cross: bool


@dataclass(frozen=True)
class Stack:
    """The blocks that the same tokens go through.

    Attributes:
        blocks: the layers.
        hidden: the width of the states.
        heads: of attention.
        width: of all queries together.
        key_width: of all keys together, and of all values.
        is_rms: whether the norms are written in Python, as RMS norms are.
        activation: the name of the feed-forward part's activation.
        has_kernel: whether attention has a kernel that keeps no matrix of scores.
        dropouts: the shares of hidden states, of scores and of inner values that are dropped.
    """

    blocks: tuple[Block, ...]
    hidden: int
    heads: int
    width: int
    key_width: int
    is_rms: bool
    activation: str
    has_kernel: bool
    dropouts: tuple[float, float, float]

    @classmethod
    def of(cls, module: nn.Module, config: Any) -> "Stack":
        """Returns the blocks of a model, or of its encoder or decoder.

        Args:
            module: the model, without PEFT.
            config: of it.
        """
        hidden, heads = int(config.hidden_size), int(_first(config, _HEADS, 1))
        head_width = int(getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or hidden // heads)
        key_heads = int(getattr(config, "num_key_value_heads", None) or (1 if _is_multi_query(config) else heads))
        feed_forward = int(_first(config, _FEED_FORWARD, 4 * hidden))
        layers = _layers(module)
        norms = [one for one in module.modules() if _is_norm(one)]
        hidden_dropout, attention_dropout, inner_dropout = (
            float(_first(config, names, 0.0)) for names in (_HIDDEN_DROPOUT, _ATTENTION_DROPOUT, _INNER_DROPOUT)
        )
        is_sdpa = getattr(config, "_attn_implementation", "eager") == "sdpa"
        blocks = tuple(_block(layer, feed_forward, hidden, heads, head_width) for layer in layers)
        # A model whose layers share their weights (ALBERT) has fewer modules than layers.
        repeats = max(1, int(_first(config, _LAYERS, len(blocks))) // max(len(blocks), 1))
        return cls(
            blocks=blocks * repeats,
            hidden=hidden,
            heads=heads,
            width=heads * head_width,
            key_width=key_heads * head_width,
            is_rms=not any(isinstance(one, nn.LayerNorm) for one in norms),
            activation=str(_first(config, _ACTIVATION, "gelu")),
            # The kernels on a CPU learn no bias on the scores (T5).
            has_kernel=is_sdpa and not hasattr(config, "relative_attention_num_buckets"),
            dropouts=(hidden_dropout, attention_dropout, inner_dropout),
        )

    def cache_bytes(self, rows: int, tokens: int, element: int) -> int:
        """Returns the bytes of the keys and values of some tokens in all layers."""
        return 2 * len(self.blocks) * self.key_width * rows * tokens * element

    def kept_bytes(self, rows: int, tokens: int, keys: int, prompt: int, training: "Training") -> int:
        """Returns the bytes that are kept for the gradients of some tokens, but for keys and values in the cache.

        Args:
            rows: of the batch.
            tokens: that go through the blocks.
            keys: that each of them may see.
            prompt: further tokens that blocks with cross-attention see.
            training: what is trained, and in which type.
        """
        element = training.element
        total = 0
        for block in self.blocks:
            attentions = 2 if block.cross else 1
            per_token = training.rank * FLOAT32_BYTES * len(block.inputs)
            per_token += 2 * FLOAT32_BYTES * sum(block.outputs) if training.keeps_outputs else 0
            for width in block.norms:
                per_token += width * (max(element, FLOAT32_BYTES) if self.is_rms else element)
                per_token += width * element if self.is_rms and training.is_full else 0
            per_token += attentions * self.width * element  # queries
            if training.copies_inputs:
                per_token += sum(block.inputs) * FLOAT32_BYTES + attentions * self.width * element
            else:
                per_token += (sum(block.norms) + attentions * self.width + block.feed_forward) * element
            per_token += self._inner_values(block) * block.feed_forward * element
            per_token += (1 + attentions) * self.hidden * element if self.dropouts[0] else 0
            total += rows * tokens * per_token
            total += rows * tokens * keys * self._score_bytes(element)
            if block.cross:
                total += rows * tokens * prompt * self._score_bytes(element)
            if self.key_width < self.width:  # keys and values are repeated for their queries
                total += 2 * rows * keys * self.width * element
        return total

    def _inner_values(self, block: Block) -> int:
        """Returns how many values of the inner width the feed-forward part keeps, but for its last map's input."""
        kept = 3 if block.gated else int(self.activation != "relu" or self.dropouts[2] > 0)
        if self.activation in ("gelu_new", "gelu_fast", "gelu_pytorch_tanh_python"):
            kept += 4
        return kept + int(self.dropouts[2] > 0)

    def _score_bytes(self, element: int) -> int:
        """Returns the bytes that are kept for each token and key: the padding mask, or the scores of all heads."""
        if self.has_kernel and not self.dropouts[1]:  # the kernels on a CPU drop no scores
            return element
        return self.heads * FLOAT32_BYTES * (3 if self.dropouts[1] else 1)


@dataclass(frozen=True)
class Training:
    """What is trained, and in which type.

    Attributes:
        element: the bytes of one of the backbone's weights.
        rank: of the update, which is in float32; 0 without one.
        keeps_type: whether the update computes in the backbone's type, so that its inputs are not copied.
        keeps_outputs: whether the layer's output and the update's are both kept, to be scaled (DoRA).
    """

    element: int
    rank: int
    keeps_type: bool = False
    keeps_outputs: bool = False

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained."""
        return self.rank == 0

    @property
    def copies_inputs(self) -> bool:
        """Whether each update makes a copy of its input in its own type."""
        return self.rank > 0 and self.element != FLOAT32_BYTES and not self.keeps_type


@dataclass(frozen=True)
class Shape:
    """The blocks of a backbone.

    Attributes:
        prompt: what the prompt's tokens go through.
        target: what the target's tokens go through, if that is something else.
        is_new: whether that is not pretrained; then all of it is trained, beside an encoder's LoRA update.
    """

    prompt: Stack
    target: Stack | None
    is_new: bool = False

    @classmethod
    def of(cls, backbone: Backbone) -> "Shape":
        """Returns the shape of a backbone, before PEFT."""
        model = backbone.model
        writer = getattr(backbone, "writer", None)
        if writer is not None:
            return cls(Stack.of(model, model.config), Stack.of(writer, writer.config), is_new=True)
        if not model.config.is_encoder_decoder:
            return cls(Stack.of(model, model.config.get_text_config()), None)
        encoder, decoder = model.config.get_text_config(encoder=True), model.config.get_text_config(decoder=True)
        return cls(Stack.of(model.get_encoder(), encoder), Stack.of(model.get_decoder(), decoder))

    def kept_bytes(self, rows: int, prompt: int, target: int, training: Training) -> int:
        """Returns the bytes of the activations of a training step: a prompt is read, a target is written.

        Args:
            rows: of the batch.
            prompt: tokens of a prompt.
            target: tokens of a target.
            training: what is trained, and in which type.
        """
        last = 4 * rows * target * self.prompt.hidden * FLOAT32_BYTES  # what the Director keeps
        read = self.prompt.kept_bytes(rows, prompt, prompt, 0, training)
        if self.target is None:
            return last + read + self.prompt.kept_bytes(rows, target, prompt + target, 0, training)
        # The decoder sees a start token first, which is part of reading.
        read += self.prompt.cache_bytes(rows, prompt, training.element)  # no cache holds an encoder's
        training = Training(training.element, 0) if self.is_new else training
        start = self.target.kept_bytes(rows, 1, 1, prompt, training)
        return last + read + start + self.target.kept_bytes(rows, target, 1 + target, prompt, training)

    def cache_bytes(self, rows: int, prompt: int, target: int, element: int) -> int:
        """Returns the bytes of keys and values: those of the memory, and those of the write over it.

        A decoder-only model's write joins the prompt's and the target's in new tensors; a decoder with cross-attention
        shares the prompt's.
        """
        if self.target is None:
            return self.prompt.cache_bytes(rows, 2 * prompt + target, element)
        return self.target.cache_bytes(rows, prompt + 2 + target, element)

    def state_bytes(self, rows: int, prompt: int, element: int) -> int:
        """Returns the bytes of every layer's states of a prompt, which the model hands out together."""
        return rows * prompt * (len(self.prompt.blocks) + 1) * self.prompt.hidden * element

    def working_bytes(self, rows: int, prompt: int, training: Training, *, drops: bool) -> int:
        """Returns the bytes of all values of one block: what is at work besides what is kept.

        A backward pass holds about as many gradients, a forward pass without gradients the values themselves.

        Args:
            rows: of the batch.
            prompt: tokens of a prompt.
            training: what is trained, and in which type.
            drops: whether dropout is on.
        """
        stack = self.prompt if drops else replace(self.prompt, dropouts=(0.0, 0.0, 0.0))
        kept = stack.kept_bytes(rows, prompt, prompt, 0, training)
        kept += stack.cache_bytes(rows, prompt, training.element)
        return kept // max(len(stack.blocks), 1)


def _first(config: Any, names: tuple[str, ...], default: Any) -> Any:
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if value is not None), default)


def _is_multi_query(config: Any) -> bool:
    return bool(getattr(config, "multi_query", False)) and not getattr(config, "new_decoder_architecture", False)


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower() and getattr(module, "weight", None) is not None


def _layers(module: nn.Module) -> list[nn.Module]:
    """Returns the layers of a model: the outermost list of modules with linear maps in them."""
    for part in module.modules():
        if isinstance(part, nn.ModuleList) and any(True for _ in _widths(part)):
            return list(part)
    return []


def _widths(module: nn.Module) -> Iterator[tuple[int, int]]:
    """Returns the widths of what each linear map reads and writes."""
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if isinstance(part, nn.Linear):
            yield part.in_features, part.out_features
        elif type(part).__name__ == "Conv1D" and weight is not None:  # GPT-2's name for the same
            yield int(weight.shape[0]), int(weight.shape[1])


def _block(layer: nn.Module, feed_forward: int, hidden: int, heads: int, head_width: int) -> Block:
    widths = list(_widths(layer))
    inner = sum(wide // feed_forward for _, wide in widths if wide in (feed_forward, 2 * feed_forward))
    norms = (one.weight.numel() for one in layer.modules() if _is_norm(one) and isinstance(one.weight, Tensor))
    crosses = ("crossattention", "encoder_attn", "encdecattention", "cross_attn")
    return Block(
        # A norm of each head's queries or keys has one weight for all heads.
        norms=tuple(width * heads if width == head_width != hidden else width for width in norms),
        inputs=tuple(wide for wide, _ in widths),
        outputs=tuple(wide for _, wide in widths),
        feed_forward=feed_forward,
        gated=inner > 1,
        cross=any(name.lower().endswith(crosses) for name, _ in layer.named_modules()),
    )
