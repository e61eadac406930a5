"""Key/value caches that share their tensors: forks, some of their rows, caches without gradients, room to grow."""

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

# Free columns behind the keys and values, so that a write need not copy all columns before it.
ROOM = 16


class _Store:
    """Keys and values with room behind them, and the layers that use them.

    Args:
        keys: the keys, in pieces that follow each other; room is made behind them.
        values: the values, in pieces that follow each other.
    """

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self.users: WeakSet[RoomyLayer] = WeakSet()
        self.keys, self.values = self._with_room(keys), self._with_room(values)

    @staticmethod
    def _with_room(pieces: Sequence[Float[Tensor, "batch head _ size"]]) -> Float[Tensor, "batch head roomy size"]:
        first, seen = pieces[0], sum(piece.shape[-2] for piece in pieces)
        roomy = first.new_empty(*first.shape[:-2], seen + ROOM, first.shape[-1])
        torch.cat(list(pieces), dim=-2, out=roomy[..., :seen, :])
        return roomy

    def takes(self, before: int, after: int) -> bool:
        """Returns whether columns from `before` to `after` are there, and no living layer has written them."""
        return after <= self.keys.shape[-2] and all(layer.get_seq_length() <= before for layer in self.users)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer that grow in place, where that changes nothing for other forks.

    Forks share a store. The first fork to grow takes the free columns; while it lives, any other fork copies when it
    grows. With gradients on, every growth copies, as the backward pass needs the old keys and values.
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
            grown: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
            return grown
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
        """Copies the keys and values to a new store with room, so that the next write need not copy them."""
        if self.keys is not None:
            self._enter(_Store((self.keys,), (self.values,)))

    def leave(self) -> None:
        """Gives up the store, before the keys and values are replaced by others."""
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
    """Returns the cache without its graph of gradients, with room for a write over it."""
    without_graph = _changed(cache, lambda tensor: tensor.detach())
    for layer in [] if isinstance(without_graph, EncoderDecoderCache) else without_graph.layers:
        if isinstance(layer, RoomyLayer):
            layer.make_room()
    return without_graph


def repeated(cache: AnyCache, rows: int) -> AnyCache:
    """Returns the cache of a single row as the cache of several rows, which share its tensors."""
    return _changed(cache, lambda tensor: tensor.expand(rows, *tensor.shape[1:]))


def rows_of(cache: AnyCache, rows: Int[Tensor, " taken"]) -> AnyCache:
    """Returns the cache of some rows."""
    return _changed(cache, lambda tensor: tensor[rows])


def _changed(cache: AnyCache, change: Callable[[Tensor], Tensor]) -> AnyCache:
    forked = fork(cache)
    has_two = isinstance(forked, EncoderDecoderCache)
    for some in (forked.self_attention_cache, forked.cross_attention_cache) if has_two else (forked,):
        for layer in some.layers:
            if isinstance(layer, RoomyLayer):
                layer.leave()
            if layer.keys is not None:
                layer.keys, layer.values = change(layer.keys), change(layer.values)
    return forked
