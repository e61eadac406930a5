"""Key/value caches that share their tensors: forked, cut to some rows, freed of their gradients."""

import copy
from collections.abc import Callable
from typing import TypeVar

from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

AnyCache = TypeVar("AnyCache", DynamicCache, EncoderDecoderCache)


def fork(cache: AnyCache) -> AnyCache:
    """Returns a cache that shares the tensors so far and grows apart."""
    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(fork(cache.self_attention_cache), fork(cache.cross_attention_cache))
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked


def detached(cache: AnyCache) -> AnyCache:
    """Returns the cache without its graph of gradients."""
    return _changed(cache, lambda part: part.detach())


def rows_of(cache: AnyCache, rows: Int[Tensor, " taken"]) -> AnyCache:
    """Returns the cache of some rows."""
    return _changed(cache, lambda part: part[rows])


def _changed(cache: AnyCache, change: Callable[[Tensor], Tensor]) -> AnyCache:
    forked = fork(cache)
    both = isinstance(forked, EncoderDecoderCache)
    for part in (forked.self_attention_cache, forked.cross_attention_cache) if both else (forked,):
        for layer in part.layers:
            if layer.keys is not None:
                layer.keys, layer.values = change(layer.keys), change(layer.values)
    return forked
