"""From a memory to the probabilities of targets: all of them in one write, or the likeliest ones first."""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones import Backbone, Memory
from predgen.backbones.base import TreeWritten
from predgen.codec.codec import Codec
from predgen.codec.trie import Trie
from predgen.measures.distributions import NumberDistribution
from predgen.writing.symbols import SymbolModel

# Logits and mask of a tree together have at most this many cells; more rows are written in several parts.
TREE_CELLS = 100_000_000
# Where the expansion of a number with too many values stops: the share of the probability that is known number by
# number, and the nodes of each row's tree.
STATED_MASS = 0.999
MAX_NODES = 192
# Prefixes of each row that are expanded in one write.
WIDTH = 32
# What a write costs by itself, in tokens: it reads all weights (26M parameters on a CPU).
WRITE_TOKENS = 50


def score_all(backbone: Backbone, memory: Memory, trie: Trie) -> Float[Tensor, "batch leaf"]:
    """Returns log P(target | prompt) in nats of every target of a trie, in its order, with gradients if they are on.

    Over the allowed symbols the probabilities of all targets sum to 1.
    """
    scores = []
    for read, written in _written_trees(backbone, memory, trie):
        logits = read.logits.unsqueeze(1)[:, :0] if written is None else written.logits
        scores.append(trie.log_probabilities(read.logits, logits, vocabulary=memory.vocabulary))
    return torch.cat(scores)


def _written_trees(backbone: Backbone, memory: Memory, trie: Trie) -> Iterator[tuple[Memory, TreeWritten | None]]:
    """Yields rows of a memory and the trie that is written after them; None where one symbol decides."""
    if trie.num_nodes == 0:
        yield memory, None
        return
    batch = len(memory.state)
    tokens = trie.codec.symbols[trie.symbols]
    for rows in torch.split(torch.arange(batch, device=tokens.device), _rows_at_once(memory, trie)):
        read = memory if len(rows) == batch else backbone.take(memory, rows)
        nodes, depths, ancestors = (
            table.expand(len(rows), *table.shape) for table in (tokens, trie.depths, trie.ancestors)
        )
        yield read, backbone.write_tree(read, nodes, depths, ancestors)


@dataclass(frozen=True)
class ScoredTree:
    """All targets of a trie, with the states behind their probabilities.

    Attributes:
        log_probabilities: log P(target | prompt) in nats, in the trie's order.
        point_scores: log P of each symbol at each point, in nats.
        states: the state at each node.
    """

    log_probabilities: Float[Tensor, "batch leaf"]
    point_scores: Float[Tensor, "batch point symbol"]
    states: Float[Tensor, "batch node hidden"]


def score_tree(backbone: Backbone, memory: Memory, trie: Trie) -> ScoredTree:
    """Returns the scores of `score_all` with the states of the same write, with gradients if they are on."""
    scores, states = [], []
    for read, written in _written_trees(backbone, memory, trie):
        logits = read.logits.unsqueeze(1)[:, :0] if written is None else written.logits
        scores.append(trie.point_scores(read.logits, logits, vocabulary=memory.vocabulary))
        states.append(read.state.unsqueeze(1)[:, :0] if written is None else written.states)
    points = torch.cat(scores)
    return ScoredTree(trie.sums(points), points, torch.cat(states))


def read_and_score_tree(
    symbols: SymbolModel, prompt: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"], trie: Trie
) -> tuple[Memory, ScoredTree]:
    """Returns the memory of prompts and the scores of all targets, from one forward where that is exact.

    A write over the memory may read the prompts again.

    Args:
        symbols: the language model.
        prompt: the prompts' tokens.
        mask: which of them are not padding.
        trie: the targets.
    """
    vocabulary = symbols.vocabulary
    size = symbols.backbone.num_target_tokens if vocabulary is None else len(vocabulary)
    cells = len(prompt) * (prompt.shape[1] + trie.num_nodes) * (prompt.shape[1] + trie.num_nodes + size)
    if trie.num_nodes == 0 or cells > TREE_CELLS:
        memory = symbols.read(prompt, mask)
        return memory, score_tree(symbols.backbone, memory, trie)
    tokens = trie.codec.symbols[trie.symbols]
    nodes, depths, ancestors = (
        table.expand(len(prompt), *table.shape) for table in (tokens, trie.depths, trie.ancestors)
    )
    memory, written = symbols.backbone.read_tree((prompt, mask), nodes, depths, ancestors, vocabulary)
    points = trie.point_scores(memory.logits, written.logits, vocabulary=memory.vocabulary)
    return memory, ScoredTree(trie.sums(points), points, written.states)


@dataclass(frozen=True)
class TrieScores:
    """The scores of all targets of a trie.

    Attributes:
        log_probabilities: log P(target | prompt) in nats, in the trie's order.
        followed: which targets were scored one by one. The others share evenly what the first symbol of theirs has.
        covered: the share of the probability that those have.
    """

    log_probabilities: Float[Tensor, "batch leaf"]
    followed: Bool[Tensor, "batch leaf"]
    covered: Float[Tensor, " batch"]

    def best(self) -> Int[Tensor, " batch"]:
        """Returns the likeliest of the targets that were scored one by one."""
        return self.log_probabilities.masked_fill(~self.followed, float("-inf")).argmax(dim=1)


def score_likeliest(backbone: Backbone, memory: Memory, trie: Trie, mass: float) -> TrieScores:
    """Returns the scores of all targets; only targets behind the likeliest first symbols are written.

    The probability of each first symbol is known before anything is written. The targets behind the likeliest first
    symbols, which together have the stated mass, are written in one write.

    Args:
        backbone: the model.
        memory: what it has read.
        trie: the targets.
        mass: the share of the probability that is enough; 1 writes all of the tree, as the softmax over the whole
            vocabulary needs it in every case: there forced symbols have a share too.
    """
    if mass >= 1 or trie.full or trie.num_nodes == 0:
        return _all_followed(backbone, memory, trie)
    start = torch.zeros(len(memory.state), dtype=torch.long, device=memory.state.device)
    first = trie.codec.log_probabilities(memory.logits, start, vocabulary=memory.vocabulary)
    kept = likely_first_symbols(first, mass)
    if bool(kept[:, trie.first_symbols].all()):
        return _all_followed(backbone, memory, trie)
    return spread_the_rest(write_kept_nodes(backbone, memory, trie, kept), trie, first, kept)


def _all_followed(backbone: Backbone, memory: Memory, trie: Trie) -> TrieScores:
    """Returns the scores of all targets, each of them written."""
    scores = score_all(backbone, memory, trie)
    return TrieScores(scores, torch.ones_like(scores, dtype=torch.bool), torch.ones_like(scores[:, 0]))


def likely_first_symbols(first: Float[Tensor, "batch symbol"], mass: float) -> Bool[Tensor, "batch symbol"]:
    """Returns for each row the likeliest first symbols, which together have the mass; their targets are written.

    Args:
        first: log P of each first symbol, in nats.
        mass: the share of the probability that is enough.
    """
    shares, order = first.softmax(dim=1).sort(dim=1, descending=True)
    return torch.zeros_like(shares, dtype=torch.bool).scatter(1, order, shares.cumsum(dim=1) - shares < mass)


def write_kept_nodes(
    backbone: Backbone, memory: Memory, trie: Trie, kept: Bool[Tensor, "batch symbol"]
) -> Float[Tensor, "batch leaf"]:
    """Returns log P of every target in nats, which counts only behind the first symbols that are kept.

    Rows that write about as many nodes are written together.

    Args:
        backbone: the model.
        memory: what it has read.
        trie: the targets.
        kept: the first symbols that are followed, in each row.
    """
    wanted = kept[:, trie.first_symbols]
    groups = row_groups(wanted.sum(dim=1).tolist(), _rows_at_once(memory, trie))
    scores = []
    for group in groups:
        rows = torch.tensor(group, device=kept.device)
        read = memory if group == list(range(len(kept))) else backbone.take(memory, rows)
        scores.append(_scores_of_kept(backbone, read, trie, wanted[rows]))
    order = torch.tensor([row for group in groups for row in group], device=kept.device)
    return torch.cat(scores)[order.argsort()]


def _scores_of_kept(
    backbone: Backbone, memory: Memory, trie: Trie, wanted: Bool[Tensor, "batch node"]
) -> Float[Tensor, "batch leaf"]:
    """Returns the scores of `write_kept_nodes` for rows that are written at once."""
    # The nodes of each row in order; a row with fewer nodes than others also writes some whose scores are not used.
    nodes = (~wanted).to(torch.int8).argsort(dim=1, stable=True)[:, : int(wanted.sum(dim=1).max())]
    logits = memory.logits.new_zeros(len(wanted), trie.num_nodes, memory.logits.shape[1])
    if nodes.shape[1]:  # or their likeliest first symbols decide all
        seen = trie.ancestors[nodes.unsqueeze(2), nodes.unsqueeze(1)]
        tokens = trie.codec.symbols[trie.symbols][nodes]
        written = backbone.write_tree(memory, tokens, trie.depths[nodes], seen).logits
        logits = logits.scatter(1, nodes.unsqueeze(2).expand_as(written), written)
    return trie.log_probabilities(memory.logits, logits, vocabulary=memory.vocabulary)


def spread_the_rest(
    scores: Float[Tensor, "batch leaf"],
    trie: Trie,
    first: Float[Tensor, "batch symbol"],
    kept: Bool[Tensor, "batch symbol"],
) -> TrieScores:
    """Returns the scores of all targets: the probability of a first symbol not followed is spread over its targets.

    Args:
        scores: as `write_kept_nodes` returns them.
        trie: the targets.
        first: log P of each first symbol, in nats.
        kept: the first symbols that were followed.
    """
    first_of_leaf = trie.paths[:, 0]
    num_alike = torch.bincount(first_of_leaf, minlength=first.shape[1]).to(scores.dtype)
    # A target alone behind its first symbol has all of its probability: it needs no write.
    followed = kept[:, first_of_leaf] | (num_alike[first_of_leaf] == 1)
    spread = first[:, first_of_leaf].to(scores.dtype) - num_alike[first_of_leaf].log()
    covered = first.softmax(dim=1) * (kept | (num_alike == 1))
    return TrieScores(torch.where(followed, scores, spread), followed, covered.sum(dim=1).to(scores.dtype))


@dataclass
class _Row:
    """The expanded part of one row's tree.

    Attributes:
        size: the number of nodes.
        new: the nodes that are not written yet: the symbol of each, and the nodes that it sees, itself included.
        open: prefixes that may be expanded, the likeliest first: (−log P, count, prefix, nodes of the prefix).
        leaves: numbers that are scored, and log P of each.
        full: forced symbols are scored too, as the softmax over the whole vocabulary needs it.
    """

    full: bool
    size: int = 0
    new: list[tuple[int, list[int]]] = field(default_factory=list)
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
            nodes: the nodes of the prefix.
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

    def grow(self, prefix: tuple[int, ...], nodes: list[int], written: int) -> list[int]:
        """Returns the nodes of a prefix, adding nodes that are missing.

        Args:
            prefix: symbols.
            nodes: the nodes that the prefix has already, of its first symbols.
            written: how many nodes each row's tree has had written.
        """
        for symbol in prefix[len(nodes) :]:
            nodes = [*nodes, written + len(self.new)]
            self.new.append((symbol, nodes))
            self.size += 1
        return nodes


def row_groups(num_nodes: Sequence[int], most: int) -> list[list[int]]:
    """Returns all rows in the groups that are written together, such that the fewest tokens are written.

    In a group every row is filled up to its longest. A write costs as much as some tokens by itself, so that few rows
    are not worth one of their own.

    Args:
        num_nodes: what each row writes.
        most: rows of a group.
    """
    order = sorted(range(len(num_nodes)), key=lambda row: num_nodes[row])
    # The cheapest way to write the first rows of that order, and where its last group begins.
    costs, begins = [0], [0]
    for end in range(1, len(order) + 1):
        longest = num_nodes[order[end - 1]]
        cost, begin = min(
            (costs[first] + longest * (end - first) + WRITE_TOKENS, first) for first in range(max(0, end - most), end)
        )
        costs.append(cost)
        begins.append(begin)
    groups, end = [], len(order)
    while end > 0:
        groups.append(sorted(order[begins[end] : end]))
        end = begins[end]
    return groups


def _rows_at_once(memory: Memory, trie: Trie) -> int:
    """Returns how many rows' trees are written at once."""
    cells = trie.num_nodes * (memory.logits.shape[1] + memory.tokens.shape[1] + trie.num_nodes)
    return max(1, int(TREE_CELLS // cells))


@torch.no_grad()
def best_first(
    symbols: SymbolModel, memory: Memory, *, mass: float = STATED_MASS, max_nodes: int = MAX_NODES
) -> NumberDistribution:
    """Returns the distribution of a number with too many values to score them all.

    The likeliest prefixes are expanded first, some of each row in every write, until the numbers that are scored have
    the stated mass, or the tree has enough nodes. What is left stands at the middle of each prefix's range.

    Args:
        symbols: the model of a number's symbols; over the whole vocabulary, the mass counts valid numbers only.
        memory: what it has read.
        mass: the share of the probability that is enough.
        max_nodes: the nodes of each row's tree that are enough.
    """
    batch, kept = memory.logits.shape
    codec, backbone, device = symbols.codec, symbols.backbone, memory.state.device
    most = max(1, TREE_CELLS // ((max_nodes + WIDTH) * (kept + memory.tokens.shape[1] + max_nodes + WIDTH)))
    if batch > most:
        return NumberDistribution.joined(
            [
                best_first(symbols, backbone.take(memory, rows), mass=mass, max_nodes=max_nodes)
                for rows in torch.split(torch.arange(batch, device=device), most)
            ]
        )
    rows = [_Row(symbols.full) for _ in range(batch)]
    first = symbols.scores(memory, memory.logits, symbols.start(memory))
    for row, scores in zip(rows, first.tolist(), strict=True):
        row.add(codec, (), [], scores, 0.0)
    tree = None
    while True:
        num_written = 0 if tree is None else tree.tokens.shape[1]
        expanded = _likeliest_prefixes(rows, num_written, mass=mass, max_nodes=max_nodes)
        if not expanded:
            return _distribution(codec, rows, device)
        written = backbone.write_tree(memory, *_new_nodes(codec, rows, num_written, device), tree)
        tree = written.tree
        after = torch.stack([written.logits[index, nodes[-1] - num_written] for index, _, _, nodes in expanded])
        states = torch.tensor([codec.state_after(prefix) for _, _, prefix, _ in expanded], device=device)
        table = symbols.scores(memory, after, states).tolist()
        for (index, log_mass, prefix, nodes), scores in zip(expanded, table, strict=True):
            rows[index].add(codec, prefix, nodes, scores, log_mass)


def _likeliest_prefixes(
    rows: list[_Row], num_written: int, *, mass: float, max_nodes: int
) -> list[tuple[int, float, tuple[int, ...], list[int]]]:
    """Returns the prefixes that are expanded next: the row, log P, the symbols, and the nodes of each."""
    expanded = []
    for index, row in enumerate(rows):
        known, row.new = row.mass, []
        for _ in range(WIDTH):
            if known >= mass or row.size >= max_nodes or not row.open:
                break
            negative, _, prefix, nodes = heapq.heappop(row.open)
            expanded.append((index, -negative, prefix, row.grow(prefix, nodes, num_written)))
    return expanded


def _new_nodes(
    codec: Codec, rows: list[_Row], written: int, device: torch.device
) -> tuple[Int[Tensor, "batch new"], Int[Tensor, "batch new"], Bool[Tensor, "batch new all"]]:
    """Returns the rows' new nodes as `write_tree` takes them, filled up with nodes that see themselves alone."""
    length = max(len(row.new) for row in rows)
    symbols = torch.zeros(len(rows), length, dtype=torch.long)
    ancestors = torch.eye(length, dtype=torch.bool).repeat(len(rows), 1, 1)
    ancestors = torch.nn.functional.pad(ancestors, (written, 0))
    for index, row in enumerate(rows):
        symbols[index, : len(row.new)] = torch.tensor([symbol for symbol, _ in row.new], dtype=torch.long)
        for node, (_, seen) in enumerate(row.new):
            ancestors[index, node, seen] = True
    return codec.symbols[symbols.to(device)], ancestors.sum(dim=2).to(device), ancestors.to(device)


def _distribution(codec: Codec, rows: list[_Row], device: torch.device) -> NumberDistribution:
    """Returns the distribution of each row's number."""
    scored_numbers, covered = [], []
    for row in rows:
        ranges = [(sum(codec.range_of(prefix)) / 2, -negative) for negative, _, prefix, _ in row.open]
        scored_numbers.append(sorted(row.leaves + ranges))
        covered.append(row.mass / (row.mass + math.fsum(math.exp(score) for _, score in ranges)))
    length = max(map(len, scored_numbers))
    filled = [row + [(row[-1][0], -math.inf)] * (length - len(row)) for row in scored_numbers]
    table = torch.tensor(filled, dtype=torch.float64, device=device)
    return NumberDistribution(
        table[..., 0], table[..., 1].softmax(dim=1), torch.tensor(covered, dtype=torch.float64, device=device)
    )
