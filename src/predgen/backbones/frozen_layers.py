"""The frozen first layers of a model: what they make of a prompt is computed once, kept, and put back later."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from predgen.backbones.caches import RoomyLayer, roomy_cache
from predgen.backbones.row_store import RowStore

# Dropout that is no module of its own.
DROPOUT_RATES = ("attention_dropout", "attn_pdrop")

# Runs the model over prompts and their mask, and fills the cache if there is one.
Run = Callable[[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"], DynamicCache | None], Any]


@dataclass(frozen=True)
class Made:
    """What the frozen layers made of a batch of prompts.

    Attributes:
        states: after the last of them.
        keys_values: the keys and values of each of them, the keys first; of no layer where they are not kept.
    """

    states: Float[Tensor, "batch prompt hidden"]
    keys_values: Float[Tensor, "batch two_layers heads prompt size"]

    def fill(self, cache: DynamicCache) -> None:
        """Puts the keys and values into a cache that the layers behind have filled."""
        keys_values = self.keys_values.unbind(dim=1)
        while len(cache.layers) < len(keys_values) // 2:
            cache.layers.append(RoomyLayer())
        for index, layer in enumerate(cache.layers[: len(keys_values) // 2]):
            layer.update(keys_values[2 * index], keys_values[2 * index + 1])


@dataclass(frozen=True)
class Sizes:
    """The sizes of what a token leaves in the frozen layers.

    Attributes:
        hidden: of its state.
        keys_values: how many keys and values, of how many heads, of which size.
    """

    hidden: int
    keys_values: tuple[int, int, int]


@dataclass
class KeptStates:
    """What the frozen layers made of prompts, by the prompts' tokens.

    Attributes:
        rows: the states, keys and values of each prompt, one after the other; others may keep theirs there too.
        owner: what tells these layers' rows from those of others.
        sizes: how they are cut; None as long as there are none.
        beside: how many things a layer returns beside its state in a tuple; None where it returns the state alone.
    """

    rows: RowStore
    owner: bytes = b""
    sizes: Sizes | None = None
    beside: int | None = None


class FrozenLayers:
    """The first layers of a model, which are not trained and have no dropout.

    Each prompt goes through them once. Prompts that there is no room for go through them each time.

    Args:
        layers: all layers of the model, in order.
        num_frozen: how many of them are frozen.
        kept: what they made before; shared by all models whose frozen layers are the same.
        with_keys: keep keys and values too, for what is written over the prompts.
    """

    def __init__(self, layers: Sequence[nn.Module], num_frozen: int, kept: KeptStates, *, with_keys: bool) -> None:
        self.frozen, self.behind = list(layers[:num_frozen]), list(layers[num_frozen:])
        self.kept = kept
        self.with_keys = with_keys

    def made_of(self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"], run: Run) -> Made:
        """Returns what the frozen layers make of prompts; what is not known is computed and kept.

        Args:
            tokens: the prompts; padding stands on one side.
            mask: which tokens are not padding.
            run: runs the whole model.
        """
        keys = [self.kept.owner + _key_of(row[row_mask]) for row, row_mask in zip(tokens, mask, strict=True)]
        missing = [row for row, key in enumerate(keys) if key not in self.kept.rows]
        made = None
        if missing:
            rows = torch.tensor(missing, device=tokens.device)
            made = self._compute(tokens[rows], mask[rows], run)
            for index, row in enumerate(missing):
                self.kept.rows.put(keys[row], _as_row(made, index, mask[row]))
        if made is not None and len(missing) == len(keys):
            return made
        return self._assembled(keys, missing, made, mask)

    @contextmanager
    def replaced(self, states: Float[Tensor, "batch prompt hidden"]) -> Iterator[None]:
        """Lets the model run its other layers alone, over states that the frozen ones made.

        Args:
            states: after the last frozen layer.
        """
        with ExitStack() as stack:
            for layer in self.frozen[:-1]:
                stack.enter_context(_returning(layer, self._what_it_got))
            stack.enter_context(_returning(self.frozen[-1], lambda *_, **__: self._returned(states)))
            yield

    def _what_it_got(self, *args: Any, **kwargs: Any) -> Any:
        """Stands for a layer that is skipped."""
        return self._returned(args[0] if args else kwargs["hidden_states"])

    def _returned(self, states: Tensor) -> Any:
        """Returns states as the model's layers return them."""
        beside = self.kept.beside  # a layer ran before
        return states if beside is None else (states, *(None for _ in range(beside)))

    @torch.no_grad()
    def run_alone(self, run: Callable[[], Any]) -> Float[Tensor, "batch new hidden"]:
        """Returns the states after the last frozen layer; the layers behind are not run.

        Args:
            run: runs the whole model.
        """
        caught: list[Tensor] = []

        def catch(_: nn.Module, __: Any, output: Any) -> None:
            several = isinstance(output, tuple)
            caught.append(output[0] if several else output)
            self.kept.beside = len(output) - 1 if several else None

        with ExitStack() as stack:
            for layer in self.behind:
                stack.enter_context(_returning(layer, self._what_it_got))
            hook = self.frozen[-1].register_forward_hook(catch)
            stack.callback(hook.remove)
            run()
        return caught[0]

    @torch.no_grad()
    def _compute(self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"], run: Run) -> Made:
        """Runs the frozen layers alone over prompts."""
        cache = roomy_cache() if self.with_keys else None
        states = self.run_alone(lambda: run(tokens, mask, cache))
        keys_values = self._keys_values(cache, states)
        self.kept.sizes = Sizes(states.shape[-1], (keys_values.shape[1], keys_values.shape[2], keys_values.shape[4]))
        return Made(states, keys_values)

    def _keys_values(
        self, cache: DynamicCache | None, states: Float[Tensor, "batch prompt hidden"]
    ) -> Float[Tensor, "batch two_layers heads prompt size"]:
        """Returns the keys and values that the frozen layers left; of no layer without a cache."""
        if cache is None:
            return states.new_zeros(len(states), 0, 0, states.shape[1], 0)
        layers = cache.layers[: len(self.frozen)]
        return torch.stack([part for layer in layers for part in (layer.keys, layer.values)], dim=1)

    def _assembled(
        self, keys: Sequence[bytes], missing: Sequence[int], made: Made | None, mask: Bool[Tensor, "batch prompt"]
    ) -> Made:
        """Returns a batch of rows that are kept or were computed now; padding has zeros."""
        new = {} if made is None else {row: _as_row(made, index, mask[row]) for index, row in enumerate(missing)}
        rows = [new[row] if row in new else self.kept.rows[key].to(mask.device) for row, key in enumerate(keys)]
        sizes = self.kept.sizes
        assert sizes is not None  # there is a row
        states = rows[0].new_zeros(*mask.shape, sizes.hidden)
        layers, heads, size = sizes.keys_values
        keys_values = states.new_zeros(len(rows), layers, heads, mask.shape[1], size)
        for row, row_mask in enumerate(mask):
            columns = _columns_of(row_mask)
            length = columns.stop - columns.start
            of_states, of_keys = rows[row].split([length * sizes.hidden, length * layers * heads * size])
            states[row, columns] = of_states.view(length, sizes.hidden)
            keys_values[row, :, :, columns] = of_keys.view(layers, heads, length, size)
        return Made(states, keys_values)


def has_dropout(model: Any) -> bool:
    """Returns whether a model drops anything when it is trained."""
    rates = (getattr(model.config.get_text_config(), name, 0) for name in DROPOUT_RATES)
    return any(rates) or any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())


def _key_of(tokens: Int[Tensor, " prompt"]) -> bytes:
    return hashlib.blake2b(tokens.cpu().numpy().tobytes(), digest_size=16).digest()


def _columns_of(mask: Bool[Tensor, " prompt"]) -> slice:
    """Returns where a prompt stands in its padded row."""
    length, first = int(mask.sum()), int(mask.int().argmax())
    return slice(first, first + length)


def _as_row(made: Made, row: int, mask: Bool[Tensor, " prompt"]) -> Float[Tensor, " size"]:
    """Returns what was made of a prompt as one row of numbers."""
    columns = _columns_of(mask)
    return torch.cat([made.states[row, columns].flatten(), made.keys_values[row, :, :, columns].flatten()])


@contextmanager
def _returning(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Gives a layer another forward for a while."""
    before = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        if before is None:
            del layer.forward
        else:
            layer.forward = before
