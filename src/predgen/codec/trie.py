"""The target automaton unrolled into a tree, so that every target is scored in one write.

A *node* is a written prefix after which something is still decided; it costs one written token. A *place* is a node or
the root, where the first symbol is decided. A *leaf* is a target: a place, and the symbol whose choice there settles
it; the forced rest of its path decides nothing.
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.codec.codec import Codec
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.record import Record, Target

# Numbers and records with more values than this are not unrolled; nor are more sets of labels, whose trees are larger.
MAX_NUMBERS = 10_000
MAX_SETS = 256


class Trie(nn.Module):
    """All targets of a codec as a tree.

    Attributes:
        codec: the target automaton.
        values: the targets, numbers ascending, labels in the target's order, others in that of the tree.
        symbols: the symbol that is written at each node, shape (node,).
        depths: how many symbols stand before the root's end at each node, 1 for the root's children, shape (node,).
        ancestors: which nodes each node sees, itself included, shape (node, node).
        numbers: the leaves' values if they are numbers, shape (leaf,); empty for others.
        members: which labels each leaf's set holds, shape (leaf, label); empty for others.
        paths: each leaf's path, the end symbol included, 0 after it, shape (leaf, target).
        path_mask: which positions belong to the path, shape (leaf, target).
        first_symbols: the first symbol of each node's prefix, shape (node,).
    """

    codec: Codec
    symbols: Int[Tensor, " node"]
    depths: Int[Tensor, " node"]
    ancestors: Bool[Tensor, "node node"]
    numbers: Float[Tensor, " leaf"]
    members: Float[Tensor, "leaf label"]
    paths: Int[Tensor, "leaf target"]
    path_mask: Bool[Tensor, "leaf target"]
    first_symbols: Int[Tensor, " node"]
    _parents: Int[Tensor, " node"]
    _states: Int[Tensor, " place"]
    _leaf_places: Int[Tensor, " leaf"]
    _leaf_symbols: Int[Tensor, " leaf"]

    def __init__(self, codec: Codec, *, full: bool = False) -> None:
        """Unrolls the automaton.

        Args:
            codec: the target automaton.
            full: score the forced symbols too, as the softmax over the whole vocabulary needs it.

        Raises:
            ValueError: there are too many targets; see `fits`.
        """
        super().__init__()
        if not fits(codec.target):
            raise ValueError(f"expected at most {MAX_NUMBERS} numbers or {MAX_SETS} sets, found {codec.num_targets}")
        self.codec = codec
        self.full = full
        decides = codec.states_that_decide(full=full)
        # Place 0 is the root, place n + 1 is node n; parents come before their children.
        states, parents, symbols = [0], list[int](), list[int]()
        prefixes: list[tuple[int, ...]] = [()]
        leaves: list[tuple[tuple[int, ...], int, int]] = []
        place = 0
        while place < len(states):
            for symbol, after in codec.rows[states[place]].items():
                prefix = (*prefixes[place], symbol)
                if decides[after]:
                    states.append(after)
                    prefixes.append(prefix)
                    parents.append(place)
                    symbols.append(symbol)
                else:
                    leaves.append((codec.settle(prefix), place, symbol))
            place += 1
        target = codec.target
        if isinstance(target, Number):
            rank: dict[tuple[int, ...], Any] = {path: codec.value_of(path) for path, _, _ in leaves}
            leaves.sort(key=lambda leaf: rank[leaf[0]])
        elif isinstance(target, Label):
            rank = {path: position for position, path in enumerate(codec.label_paths)}
            leaves.sort(key=lambda leaf: rank[leaf[0]])
        self.values: tuple[Any, ...] = tuple(codec.value_of(path) for path, _, _ in leaves)
        numbers = self.values if isinstance(target, Number) else ()
        members = torch.zeros(len(leaves), len(target.values) if isinstance(target, LabelSet) else 0)
        if isinstance(target, LabelSet):
            for leaf, value in enumerate(self.values):
                members[leaf, target.positions(value)] = 1.0
        ancestors = torch.eye(len(parents), dtype=torch.bool)
        for node, parent in enumerate(parents):
            if parent:
                ancestors[node] |= ancestors[parent - 1]
        paths = nn.utils.rnn.pad_sequence([torch.tensor(path) for path, _, _ in leaves], batch_first=True)
        lengths = torch.tensor([[len(path)] for path, _, _ in leaves])
        for name, tensor in {
            "paths": paths,
            "path_mask": torch.arange(paths.shape[1]) < lengths,
            "symbols": torch.tensor(symbols, dtype=torch.long),
            "first_symbols": torch.tensor([prefix[0] for prefix in prefixes[1:]], dtype=torch.long),
            "depths": ancestors.sum(dim=1),
            "ancestors": ancestors,
            "numbers": torch.tensor(numbers, dtype=torch.float64),
            "members": members.double(),
            "_parents": torch.tensor(parents, dtype=torch.long),
            "_states": torch.tensor(states, dtype=torch.long),
            "_leaf_places": torch.tensor([place for _, place, _ in leaves], dtype=torch.long),
            "_leaf_symbols": torch.tensor([symbol for _, _, symbol in leaves], dtype=torch.long),
        }.items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def num_nodes(self) -> int:
        """The number of tokens that are written to score every target."""
        return len(self.symbols)

    def log_probabilities(
        self,
        root: Float[Tensor, "batch kept"],
        nodes: Float[Tensor, "batch node kept"],
        *,
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> Float[Tensor, "batch leaf"]:
        """Returns log P(target | prompt) in nats of every target, in the order of `values`.

        Args:
            root: the logits after the prompt.
            nodes: the logits after each node.
            vocabulary: as in `Codec.log_probabilities`.
        """
        logits = torch.cat([root.unsqueeze(1), nodes], dim=1)
        states = self._states.expand(len(logits), -1)
        scores = self.codec.log_probabilities(logits, states, full=self.full, vocabulary=vocabulary)
        into = scores[:, self._parents, self.symbols]
        with torch.autocast(into.device.type, enabled=False):  # sums of logarithms want their digits
            before = into @ self.ancestors.to(into.dtype).T
        before = torch.cat([before.new_zeros(len(before), 1), before], dim=1)
        return before[:, self._leaf_places] + scores[:, self._leaf_places, self._leaf_symbols]


def fits(target: Target) -> bool:
    """Returns whether a target's values are few enough to be scored one and all; labels always are."""
    if isinstance(target, Record):
        return all(map(fits, target.fields.values())) and num_values(target) <= MAX_NUMBERS
    if isinstance(target, Label):
        return True
    return target.num_values <= (MAX_NUMBERS if isinstance(target, Number) else MAX_SETS)


def num_values(target: Target) -> int:
    """Returns how many values a target has."""
    if isinstance(target, Record):
        return math.prod(map(num_values, target.fields.values()))
    return len(target.values) if isinstance(target, Label) else target.num_values
