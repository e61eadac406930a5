"""From a memory to the probabilities of targets: all of them in one write, or the likeliest ones first."""

import heapq
import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from predgen.backbones import Backbone, Memory
from predgen.codec import Codec
from predgen.distributions import NumberDistribution
from predgen.trie import Trie

# Logits and mask of a tree together have at most this many cells; more rows are written in several parts.
TREE_CELLS = 100_000_000
# Where the expansion of a number with too many values stops: the share of the probability that is known number by
# number, and the nodes of each row's tree, which every round writes anew.
STATED_MASS = 0.999
MAX_NODES = 192
# Prefixes of each row that are expanded in one write.
WIDTH = 32


def score_all(backbone: Backbone, memory: Memory, trie: Trie) -> Float[Tensor, "batch leaf"]:
    """Returns log P(target | prompt) in nats of every target of a trie, in its order, with gradients if they are on.

    Over the allowed symbols the probabilities of all targets sum to 1.
    """
    batch, num_vocab = memory.logits.shape
    if trie.num_nodes == 0:  # one symbol decides
        return trie.log_probabilities(memory.logits, memory.logits.unsqueeze(1)[:, :0])
    symbols = trie.codec.symbols
    tokens = symbols[trie.symbols]
    wanted = None if trie.full else symbols
    kept = num_vocab if wanted is None else len(wanted)
    cells = trie.num_nodes * (kept + memory.tokens.shape[1] + trie.num_nodes)
    parts = []
    for rows in torch.split(torch.arange(batch, device=tokens.device), max(1, TREE_CELLS // cells)):
        part = memory if len(rows) == batch else backbone.take(memory, rows)
        nodes, depths, ancestors = (one.expand(len(rows), *one.shape) for one in (tokens, trie.depths, trie.ancestors))
        written = backbone.write_tree(part, nodes, depths, ancestors, wanted)
        root = part.logits if wanted is None else part.logits[:, wanted]
        parts.append(trie.log_probabilities(root, written.logits, picked=wanted is not None))
    return torch.cat(parts)


@dataclass
class _Row:
    """The tree of one row as far as it is expanded.

    Attributes:
        symbols: the symbol at each node.
        seen: the nodes that each node sees, itself included.
        open: prefixes that may be expanded, the likeliest first: (−log P, count, prefix, nodes of the prefix).
        leaves: numbers that are scored, and log P of each.
        full: forced symbols are scored too, as the softmax over the whole vocabulary needs it.
    """

    full: bool
    symbols: list[int] = field(default_factory=list)
    seen: list[list[int]] = field(default_factory=list)
    open: list[tuple[float, int, tuple[int, ...], list[int]]] = field(default_factory=list)
    leaves: list[tuple[float, float]] = field(default_factory=list)
    count: int = 0

    def add(
        self, codec: Codec, prefix: tuple[int, ...], nodes: list[int], scores: list[float], log_mass: float
    ) -> None:
        """Adds what may follow a prefix: a number, or a longer prefix to expand.

        Args:
            codec: the target automaton.
            prefix: what was written.
            nodes: the nodes of it.
            scores: log P of each symbol after it.
            log_mass: log P of the prefix.
        """
        for symbol in codec.rows[codec.state_after(prefix)]:
            longer = (*prefix, symbol) if self.full else codec.settle((*prefix, symbol))
            log_probability = log_mass + scores[symbol]
            if codec.state_after(longer) == codec.accepting_state:
                self.leaves.append((codec.value_of(longer), log_probability))
            else:
                self.count += 1
                heapq.heappush(self.open, (-log_probability, self.count, longer, nodes))

    @property
    def mass(self) -> float:
        """The probability of the numbers that are scored."""
        return math.fsum(math.exp(score) for _, score in self.leaves)

    def grow(self, prefix: tuple[int, ...], nodes: list[int]) -> list[int]:
        """Returns the nodes of a prefix, of which some are there already."""
        for symbol in prefix[len(nodes) :]:
            nodes = [*nodes, len(self.symbols)]
            self.symbols.append(symbol)
            self.seen.append(nodes)
        return nodes


@torch.no_grad()
def best_first(
    backbone: Backbone,
    memory: Memory,
    codec: Codec,
    *,
    mass: float = STATED_MASS,
    max_nodes: int = MAX_NODES,
    full: bool = False,
) -> NumberDistribution:
    """Returns the distribution of a number with too many values to score them all.

    The likeliest prefixes are expanded first, some of each row in every write, until the numbers that are scored have
    the stated mass, or the tree has enough nodes. What is left stands at the middle of each prefix's range.

    Args:
        backbone: the model.
        memory: what it has read.
        codec: the automaton of a number.
        mass: the share of the probability that is enough.
        max_nodes: the nodes of each row's tree that are enough.
        full: as in `Codec.log_probabilities`; the mass is that of valid numbers then.
    """
    batch, num_vocab = memory.logits.shape
    device = memory.state.device
    most = max(1, TREE_CELLS // ((max_nodes + WIDTH) * (num_vocab + memory.tokens.shape[1] + max_nodes + WIDTH)))
    if batch > most:
        parts = [
            best_first(backbone, backbone.take(memory, rows), codec, mass=mass, max_nodes=max_nodes, full=full)
            for rows in torch.split(torch.arange(batch, device=device), most)
        ]
        return NumberDistribution.joined(parts)
    start = torch.zeros(batch, dtype=torch.long, device=device)
    rows = [_Row(full) for _ in start]
    for row, scores in zip(rows, codec.log_probabilities(memory.logits, start, full=full).tolist(), strict=True):
        row.add(codec, (), [], scores, 0.0)
    while True:
        expanded: list[tuple[int, float, tuple[int, ...], list[int]]] = []
        for index, row in enumerate(rows):
            known = row.mass
            for _ in range(WIDTH):
                if known >= mass or len(row.symbols) >= max_nodes or not row.open:
                    break
                negative, _, prefix, nodes = heapq.heappop(row.open)
                expanded.append((index, -negative, prefix, row.grow(prefix, nodes)))
        if not expanded:
            return _distribution(codec, rows, device)
        wanted = None if full else codec.symbols
        logits = backbone.write_tree(memory, *_tensors(codec, rows, device), vocabulary=wanted).logits
        after = torch.stack([logits[index, nodes[-1]] for index, _, _, nodes in expanded])
        states = torch.tensor([codec.state_after(prefix) for _, _, prefix, _ in expanded], device=device)
        table = codec.log_probabilities(after, states, full=full, picked=not full).tolist()
        for (index, log_mass, prefix, nodes), scores in zip(expanded, table, strict=True):
            rows[index].add(codec, prefix, nodes, scores, log_mass)


def _tensors(codec: Codec, rows: list[_Row], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the rows' trees as `write_tree` takes them, filled up with nodes that see themselves alone."""
    length = max(len(row.symbols) for row in rows)
    symbols = torch.zeros(len(rows), length, dtype=torch.long)
    ancestors = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)
    for index, row in enumerate(rows):
        symbols[index, : len(row.symbols)] = torch.tensor(row.symbols, dtype=torch.long)
        for node, seen in enumerate(row.seen):
            ancestors[index, node, seen] = True
    return codec.symbols[symbols.to(device)], ancestors.sum(dim=2).to(device), ancestors.to(device)


def _distribution(codec: Codec, rows: list[_Row], device: torch.device) -> NumberDistribution:
    """Returns what is known of each row's numbers."""
    found, covered = [], []
    for row in rows:
        ranges = [(sum(codec.range_of(prefix)) / 2, -negative) for negative, _, prefix, _ in row.open]
        found.append(sorted(row.leaves + ranges))
        covered.append(row.mass / (row.mass + math.fsum(math.exp(score) for _, score in ranges)))
    length = max(map(len, found))
    filled = [row + [(row[-1][0], -math.inf)] * (length - len(row)) for row in found]
    table = torch.tensor(filled, dtype=torch.float64, device=device)
    return NumberDistribution(
        table[..., 0], table[..., 1].softmax(dim=1), torch.tensor(covered, dtype=torch.float64, device=device)
    )
