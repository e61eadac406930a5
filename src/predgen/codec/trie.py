"""The target automaton unrolled into a tree, so that every target is scored in one write.

A *node* is a written prefix after which something is still decided; it costs one written token. A *point* is a node or
the root, where the first symbol is decided. A *leaf* is a target: a point, and the symbol whose choice there settles
it; the forced rest of its path decides nothing.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.codec.automaton import Automaton
from predgen.codec.codec import Codec
from predgen.codec.kinds import is_enumerable, most_values


@dataclass(frozen=True)
class Tree:
    """An automaton unrolled from its start.

    Point 0 is the root, point n + 1 is node n; parents come before their children.

    Attributes:
        states: the automaton's state at each point.
        parents: the point before each node.
        symbols: the symbol that is written at each node.
        first_symbols: the first symbol that was written on the way to each node.
        leaf_paths: the whole path of each leaf, the end symbol included.
        leaf_points: the point at which each leaf is decided.
        leaf_symbols: the symbol whose choice there settles it.
    """

    states: list[int]
    parents: list[int]
    symbols: list[int]
    first_symbols: list[int]
    leaf_paths: list[tuple[int, ...]]
    leaf_points: list[int]
    leaf_symbols: list[int]

    @property
    def level_ends(self) -> list[int]:
        """How many nodes the first levels have: the first, the first two, and so on."""
        depths = [0]
        for parent in self.parents:
            depths.append(depths[parent] + 1)
        return list(accumulate(Counter(depths[1:]).values()))  # level after level, as nodes stand

    @property
    def ancestors(self) -> Bool[Tensor, "node node"]:
        """Which nodes each node sees, itself included."""
        seen = torch.eye(len(self.parents), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent:
                seen[node] |= seen[parent - 1]
        return seen


def unroll(automaton: Automaton, *, full: bool = False) -> Tree:
    """Returns the automaton as a tree of prefixes after which something is still decided.

    Args:
        automaton: the states and symbols.
        full: unroll the forced symbols too, as the softmax over the whole vocabulary needs it.
    """
    decides = automaton.states_that_decide(full=full)
    tree = Tree([0], [], [], [], [], [], [])
    prefixes: list[tuple[int, ...]] = [()]
    point = 0
    while point < len(tree.states):
        for symbol, after in automaton.rows[tree.states[point]].items():
            prefix = (*prefixes[point], symbol)
            if decides[after]:
                prefixes.append(prefix)
                tree.states.append(after)
                tree.parents.append(point)
                tree.symbols.append(symbol)
                tree.first_symbols.append(prefix[0])
            else:
                tree.leaf_paths.append(automaton.settle(prefix))
                tree.leaf_points.append(point)
                tree.leaf_symbols.append(symbol)
        point += 1
    return tree


class Trie(nn.Module):
    """All targets of a codec as a tree.

    Attributes:
        codec: the target automaton.
        values: the targets: numbers ascending, labels in the target's order, others in the order of the tree.
        symbols: the symbol that is written at each node, shape (node,).
        depths: how many symbols stand before the root's end at each node, 1 for the root's children, shape (node,).
        ancestors: which nodes each node sees, itself included, shape (node, node).
        numbers: the leaves' values if they are numbers, shape (leaf,); empty for others.
        members: which labels each leaf's set holds, shape (leaf, label); empty for others.
        paths: each leaf's path, the end symbol included, 0 after it, shape (leaf, target).
        path_mask: which positions belong to the path, shape (leaf, target).
        first_symbols: the first symbol of each node's prefix, shape (node,).
        points: the point before each position of each leaf's path, the last one after the last decision, shape (leaf,
            target).
    """

    codec: Codec
    symbols: Int[Tensor, " node"]
    depths: Int[Tensor, " node"]
    ancestors: Bool[Tensor, "node node"]
    numbers: Float[Tensor, " leaf"]
    members: Float[Tensor, "held label"]
    paths: Int[Tensor, "leaf target"]
    path_mask: Bool[Tensor, "leaf target"]
    first_symbols: Int[Tensor, " node"]
    points: Int[Tensor, "leaf target"]
    _parents: Int[Tensor, " node"]
    _states: Int[Tensor, " point"]
    _leaf_points: Int[Tensor, " leaf"]
    _leaf_symbols: Int[Tensor, " leaf"]

    def __init__(self, codec: Codec, *, full: bool = False) -> None:
        """Unrolls the automaton.

        Args:
            codec: the target automaton.
            full: score the forced symbols too, as the softmax over the whole vocabulary needs it.

        Raises:
            ValueError: there are too many targets; see `is_enumerable`.
        """
        super().__init__()
        if not is_enumerable(codec.target):
            raise ValueError(f"expected at most {most_values(codec.target):,} values, found {codec.num_targets:,}")
        self.codec = codec
        self.full = full
        tree = unroll(codec.automaton, full=full)
        values = [codec.value_of(path) for path in tree.leaf_paths]
        order = list(range(len(values)))
        self._level_ends = tree.level_ends  # plain numbers, which a model of shapes alone has too
        alone = codec.num_fields == 1
        if alone:  # records stay in the order of the tree
            order.sort(key=lambda leaf: codec.paths.order(values[leaf]))
        self.values: tuple[Any, ...] = tuple(values[leaf] for leaf in order)
        leaf_paths = [torch.tensor(tree.leaf_paths[leaf]) for leaf in order]
        paths = nn.utils.rnn.pad_sequence(leaf_paths, batch_first=True)
        lengths = torch.tensor([[len(path)] for path in leaf_paths])
        ancestors = tree.ancestors
        leaf_points = torch.tensor([tree.leaf_points[leaf] for leaf in order], dtype=torch.long)
        # The root, which no node is on the way to, first.
        on_the_way = torch.cat([ancestors.new_zeros(1, len(ancestors)), ancestors])[leaf_points]
        nothing = torch.zeros(0, dtype=torch.float64)
        for name, tensor in {
            "paths": paths,
            "path_mask": torch.arange(paths.shape[1]) < lengths,
            "symbols": torch.tensor(tree.symbols, dtype=torch.long),
            "points": _points_along(on_the_way, ancestors.sum(dim=1), paths.shape[1]),
            "first_symbols": torch.tensor(tree.first_symbols, dtype=torch.long),
            "depths": ancestors.sum(dim=1),
            "ancestors": ancestors,
            "numbers": codec.paths.numbers(self.values) if alone else nothing,
            "members": codec.paths.members(self.values) if alone else nothing.reshape(0, 0),
            "_parents": torch.tensor(tree.parents, dtype=torch.long),
            "_states": torch.tensor(tree.states, dtype=torch.long),
            "_leaf_points": leaf_points,
            "_leaf_symbols": torch.tensor([tree.leaf_symbols[leaf] for leaf in order], dtype=torch.long),
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
        return self.sums(self.point_scores(root, nodes, vocabulary=vocabulary))

    def point_scores(
        self,
        root: Float[Tensor, "batch kept"],
        nodes: Float[Tensor, "batch node kept"],
        *,
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> Float[Tensor, "batch point symbol"]:
        """Returns log P of each symbol at each point, in nats; the arguments are those of `log_probabilities`.

        Of the first nodes alone, if no more are given.
        """
        logits = torch.cat([root.unsqueeze(1), nodes], dim=1)
        states = self._states[: logits.shape[1]].expand(len(logits), -1)
        return self.codec.log_probabilities(logits, states, full=self.full, vocabulary=vocabulary)

    def sums(self, scores: Float[Tensor, "batch point symbol"]) -> Float[Tensor, "batch leaf"]:
        """Returns the sum along each target's path, in nats.

        Args:
            scores: as `point_scores` returns them.
        """
        into = scores[:, self._parents, self.symbols]
        device = "cpu" if into.device.type == "meta" else into.device.type  # which has no autocast
        with torch.autocast(device, enabled=False):  # sums of logarithms want their digits
            before = into @ self.ancestors.to(into.dtype).T
        before = torch.cat([before.new_zeros(len(before), 1), before], dim=1)
        return before[:, self._leaf_points] + scores[:, self._leaf_points, self._leaf_symbols]

    def log_prefixes(self, scores: Float[Tensor, "batch point symbol"], num_nodes: int) -> Float[Tensor, "batch node"]:
        """Returns log P of the prefix of each of the first nodes, in nats.

        Args:
            scores: as `point_scores` returns them, of these nodes' parents at least.
            num_nodes: how many.
        """
        first = slice(0, num_nodes)
        into = scores[:, self._parents[first], self.symbols[first]].float()
        device = "cpu" if into.device.type == "meta" else into.device.type  # which has no autocast
        with torch.autocast(device, enabled=False):
            return into @ self.ancestors[first, first].to(into.dtype).T

    def num_within(self, most: int) -> int:
        """Returns how many nodes the first levels have: as many levels as have `most` nodes or fewer, at least one."""
        if not self._level_ends:
            return 0
        return max([end for end in self._level_ends if end <= most], default=self._level_ends[0])

    def leaves_of(
        self, symbols: Int[Tensor, "batch target"], mask: Bool[Tensor, "batch target"]
    ) -> Int[Tensor, " batch"]:
        """Returns the leaf of each path.

        Args:
            symbols: paths that are those of targets.
            mask: which positions belong to them.
        """
        length = min(symbols.shape[1], self.paths.shape[1])  # a batch may be padded beyond the longest path
        symbols, mask = symbols[:, None, :length], mask[:, None, :length]
        paths, path_mask = self.paths[:, :length], self.path_mask[:, :length]
        alike = (mask == path_mask) & (~mask | (symbols == paths))
        whole = self.path_mask.sum(dim=1) == mask.sum(dim=2)
        return (alike.all(dim=2) & whole).int().argmax(dim=1)

    def best(self, log_probabilities: Float[Tensor, "batch leaf"]) -> tuple[list[Any], list[str]]:
        """Returns the likeliest target of each row, its value and its text.

        Args:
            log_probabilities: of every target, in nats.
        """
        chosen = log_probabilities.argmax(dim=1)
        rows = zip(self.paths[chosen].tolist(), self.path_mask[chosen].sum(dim=1).tolist(), strict=True)
        answers = [self.codec.value_and_text(path[:length]) for path, length in rows]
        return [value for value, _ in answers], [text for _, text in answers]


def _points_along(
    on_the_way: Bool[Tensor, "leaf node"], depths: Int[Tensor, " node"], length: int
) -> Int[Tensor, "leaf target"]:
    """Returns the point before each position of each leaf's path: the node of that depth, or the deepest one."""
    points = torch.zeros(len(on_the_way), length, dtype=torch.long)
    for position in range(length):
        above = on_the_way & (depths <= position)
        if above.shape[1]:
            deepest = (above * depths).argmax(dim=1) + 1
            points[:, position] = torch.where(above.any(dim=1), deepest, 0)
    return points
