"""What a training step keeps and works with, counted on torch's `meta` device, where a model has shapes alone.

The method's own forward and backward run there over a batch without values, and a dispatch mode counts the bytes that
are alive. After the forward these are what autograd keeps for the gradients. So any architecture is counted whose
forward has shapes that do not depend on values. Attention is a CPU's: a fused kernel unless scores are dropped or
biases are learned. A GPU fuses that too, so there a BERT's or a T5's share should be smaller.
"""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import EncoderDecoderCache

from predgen.codec.codec import EncodedTargets
from predgen.methods import Batch, Generator, Method, PredGen


@dataclass(frozen=True)
class StepMemory:
    """The bytes of a training step and of an answer, but for the weights.

    Attributes:
        kept: for the gradients.
        step_peak: the most that is alive in a training step, gradients of weights included.
        cache: keys and values of the prompts and of the targets written over them, in an answer.
        answer_peak: the most that is alive while prompts are read and targets are written over them.
    """

    kept: int
    step_peak: int
    cache: int
    answer_peak: int


def count_step(method: Method, rows: int, prompt_tokens: int) -> StepMemory:
    """Returns the bytes of a training step and of an answer.

    Args:
        method: on the `meta` device, all of it.
        rows: of the batch.
        prompt_tokens: of each row.

    Raises:
        RuntimeError: the shapes of the forward depend on values, which are not there.
    """
    batch = _batch_without_values(method, rows, prompt_tokens)
    gold = (batch.gold.symbols, batch.gold.mask, batch.gold.states)
    given = (*method.parameters(), *method.buffers(), batch.prompt, batch.prompt_mask, *gold, batch.truth)
    given_storages = frozenset(tensor.untyped_storage()._cdata for tensor in given)
    kept, step_peak = _training_bytes(method.train(), batch, given_storages)
    cache, answer_peak = _answer_bytes(method.eval(), batch, given_storages)
    return StepMemory(kept, step_peak, cache, answer_peak)


def _batch_without_values(method: Method, rows: int, prompt_tokens: int) -> Batch:
    with torch.device("meta"):
        prompt = torch.empty(rows, prompt_tokens, dtype=torch.long)
        symbols = torch.empty(rows, method.codec.max_length, dtype=torch.long)
        gold = EncodedTargets(symbols, symbols.bool(), torch.empty_like(symbols))
        return Batch(prompt, prompt.bool(), gold, torch.empty(rows, method.fields[-1].truth.stop))


def _training_bytes(method: Method, batch: Batch, given: frozenset[int]) -> tuple[int, int]:
    """Returns the bytes that a training step keeps for its gradients, and the most that are alive.

    What only the forward needs is gone when it returns.
    """
    with _CpuAttention(), _LiveBytes(given) as live:
        loss = method(batch)["loss"]
        kept = live.live
        loss.backward()
    method.zero_grad()
    return kept, live.peak


@torch.no_grad()
def _answer_bytes(method: Method, batch: Batch, given: frozenset[int]) -> tuple[int, int]:
    """Returns the bytes of keys and values in an answer, and the most that are alive."""
    with _CpuAttention(), _LiveBytes(given) as live:
        if not isinstance(method, Generator | PredGen):
            method.backbone.prompt_states(batch.prompt, batch.prompt_mask)
            return 0, live.peak
        symbols = method.writer.symbols
        memory = symbols.read(batch.prompt, batch.prompt_mask)
        written = symbols.write(memory, batch.gold.symbols, batch.gold.mask)
    tensors = [*_cached_tensors(memory.cache), *_cached_tensors(written.memory.cache)]
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()), live.peak


def _cached_tensors(cache: Any) -> Iterator[Tensor]:
    if isinstance(cache, EncoderDecoderCache):
        yield from _cached_tensors(cache.self_attention_cache)
        yield from _cached_tensors(cache.cross_attention_cache)
    elif cache is not None:
        for layer in cache.layers:
            yield from (value for value in vars(layer).values() if isinstance(value, Tensor))


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are alive and their largest sum, and answers questions about values.

    A value that the host asks for is 0 or false, as for padded rows that share no first tokens.

    Args:
        given: the storages that are not counted.

    Attributes:
        live: the bytes that are alive now.
        peak: the most that were.
    """

    def __init__(self, given: frozenset[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._given = given
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and counts what it makes."""
        if function is torch.ops.aten._local_scalar_dense.default:
            return False if args[0].dtype == torch.bool else 0
        result = function(*args, **(kwargs or {}))
        for tensor in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or key in self._given:
            return
        self._seen[key] = weakref.ref(storage, partial(self._drop, key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _drop(self, key: int, size: int, _: object) -> None:
        del self._seen[key]
        self.live -= size


class _CpuAttention(TorchFunctionMode):
    """Calls the CPU's fused kernel of attention where a CPU would; `meta` alone would keep a matrix of scores."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of torch, attention by the CPU's kernel."""
        kwargs = kwargs or {}
        if function is nn.functional.scaled_dot_product_attention:
            names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
            given = dict(zip(names, args, strict=False)) | kwargs
            query, mask = given["query"], given.get("attn_mask")
            if not given.get("dropout_p") and not (mask is not None and mask.requires_grad):
                mask = mask.to(query.dtype) if mask is not None and mask.dtype == torch.bool else mask
                return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                    query,
                    given["key"],
                    given["value"],
                    0.0,
                    given.get("is_causal", False),
                    attn_mask=mask,
                    scale=given.get("scale"),
                )[0]
        return function(*args, **kwargs)
