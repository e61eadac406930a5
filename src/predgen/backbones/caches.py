"""Key/value caches that share their tensors: forked, cut to some rows, freed of their gradients, with room behind."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakSet

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

AnyCache = TypeVar("AnyCache", DynamicCache, EncoderDecoderCache)

# Columns behind what is read, where what is written goes without a copy of all before it.
ROOM = 16


class _Store:
    """Keys and values with room behind them, and the layers that look at them.

    Args:
        keys: what is there, in parts that follow each other; room is made behind it.
        values: the same.
    """

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self.users: WeakSet[RoomyLayer] = WeakSet()
        self.keys, self.values = self._with_room(keys), self._with_room(values)

    @staticmethod
    def _with_room(parts: Sequence[Float[Tensor, "batch head _ size"]]) -> Float[Tensor, "batch head roomy size"]:
        first, seen = parts[0], sum(part.shape[-2] for part in parts)
        roomy = first.new_empty(*first.shape[:-2], seen + ROOM, first.shape[-1])
        torch.cat(list(parts), dim=-2, out=roomy[..., :seen, :])
        return roomy

    def takes(self, before: int, after: int) -> bool:
        """Returns whether columns from `before` to `after` are there, and no living layer has written them."""
        return after <= self.keys.shape[-2] and all(one.get_seq_length() <= before for one in self.users)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer that grow in place, where that changes nothing for other forks.

    Forks share a store. The first to grow takes the columns behind; while it lives, another that grows copies. With
    gradients on, every growth copies: what was seen is kept for the backward pass.
    """

    keys: Any
    values: Any

    def __init__(self) -> None:
        super().__init__()
        self._store: _Store | None = None

    def __copy__(self) -> "RoomyLayer":
        forked = type(self).__new__(type(self))
        forked.__dict__.update(self.__dict__)
        if self._store is not None:
            self._store.users.add(forked)
        return forked

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Returns all keys and values, with new ones at the end."""
        if torch.is_grad_enabled():
            self.leave()
            found: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return found
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if self._store is None or not self._store.takes(before, after):
            seen = ((self.keys,), (self.values,)) if before else ((), ())
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self._enter(_Store((*seen[0], key_states), (*seen[1], value_states)))
        else:
            self._store.keys[..., before:after, :] = key_states
            self._store.values[..., before:after, :] = value_states
        assert self._store is not None  # entered above
        self.keys, self.values = self._store.keys[..., :after, :], self._store.values[..., :after, :]
        return self.keys, self.values

    def make_room(self) -> None:
        """Copies what is there to a store of its own, so that what is written next need not."""
        if self.keys is not None:
            self._enter(_Store((self.keys,), (self.values,)))

    def leave(self) -> None:
        """Gives up the store, as what is there will be something else."""
        if self._store is not None:
            self._store.users.discard(self)
        self._store = None

    def _enter(self, store: _Store) -> None:
        self.leave()
        self._store = store
        store.users.add(self)


def roomy_cache() -> DynamicCache:
    """Returns an empty cache whose layers grow in place."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = RoomyLayer
    return cache


def fork(cache: AnyCache) -> AnyCache:
    """Returns a cache that shares the tensors so far and grows apart."""
    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(fork(cache.self_attention_cache), fork(cache.cross_attention_cache))
    forked = copy.copy(cache)
    forked.layers = [copy.copy(layer) for layer in cache.layers]
    return forked


def detached(cache: AnyCache) -> AnyCache:
    """Returns the cache without its graph of gradients, with room for what is written over it."""
    found = _changed(cache, lambda part: part.detach())
    for layer in [] if isinstance(found, EncoderDecoderCache) else found.layers:
        if isinstance(layer, RoomyLayer):
            layer.make_room()
    return found


def repeated(cache: AnyCache, rows: int) -> AnyCache:
    """Returns the cache of one row as that of several, which share its tensors."""
    return _changed(cache, lambda part: part.expand(rows, *part.shape[1:]))


def rows_of(cache: AnyCache, rows: Int[Tensor, " taken"]) -> AnyCache:
    """Returns the cache of some rows."""
    return _changed(cache, lambda part: part[rows])


def _changed(cache: AnyCache, change: Callable[[Tensor], Tensor]) -> AnyCache:
    forked = fork(cache)
    both = isinstance(forked, EncoderDecoderCache)
    for part in (forked.self_attention_cache, forked.cross_attention_cache) if both else (forked,):
        for layer in part.layers:
            if isinstance(layer, RoomyLayer):
                layer.leave()
            if layer.keys is not None:
                layer.keys, layer.values = change(layer.keys), change(layer.values)
    return forked
