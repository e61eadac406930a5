"""From a memory to written targets: token by token along the automaton, without it, or by beam search."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones import Backbone, Memory
from predgen.backbones.base import Tree
from predgen.codec.codec import Codec
from predgen.writing.symbols import SymbolModel

# Rows that are drawn in one write.
SAMPLED_ROWS = 1024


@dataclass(frozen=True)
class Decoded:
    """Written targets.

    Attributes:
        symbols: the codec's symbols, the end symbol included; 0 where `mask` is false.
        mask: which positions were written.
        states: H[1..m] of the written tokens; None unless asked for.
        finite: whether every probability that the row was chosen by is a number; else what was written means nothing.
    """

    symbols: Int[Tensor, "batch target"]
    mask: Bool[Tensor, "batch target"]
    states: Float[Tensor, "batch target hidden"] | None
    finite: Bool[Tensor, " batch"]

    def paths(self) -> list[list[int]]:
        """Returns each row's symbols without padding."""
        return [row[kept].tolist() for row, kept in zip(self.symbols.cpu(), self.mask.cpu(), strict=True)]


def greedy(symbols: SymbolModel, memory: Memory, *, with_states: bool) -> Decoded:
    """Returns the targets that are written when each token is the likeliest one that the automaton allows.

    Tokens without a choice (a fixed point, a label's tail, the end token) are not decided: they are written together
    with their neighbor where every row of the batch is forced.

    Args:
        symbols: the model of symbols; whether its softmax is over the whole vocabulary does not change the choice.
        memory: what it has read.
        with_states: also return H[1..m], which costs one more write.
    """
    codec, state = symbols.codec, symbols.start(memory)
    all_symbols, all_masks, all_states = [], [], []
    active = state != codec.accepting_state
    finite = torch.ones_like(active)
    while bool(active.any()):
        choice, is_finite = symbols.choices(memory, memory.logits, state)
        finite = finite & is_finite
        block, masks = [], []
        while True:
            symbol = choice.argmax(dim=-1).masked_fill(~active, 0)
            block.append(symbol)
            masks.append(active)
            state = torch.where(active, codec.transitions[state, symbol], state)
            active = state != codec.accepting_state
            if not bool(active.any()) or not bool((codec.forced(state) | ~active).all()):
                break
            choice = codec.allowed(state).long()
        all_symbols.append(torch.stack(block, dim=1))
        all_masks.append(torch.stack(masks, dim=1))
        if with_states or bool(active.any()):
            written = symbols.write(memory, all_symbols[-1], all_masks[-1])
            memory = written.memory
            all_states.append(written.states[:, 1:])
    return Decoded(
        torch.cat(all_symbols, dim=1),
        torch.cat(all_masks, dim=1),
        torch.cat(all_states, dim=1) if with_states else None,
        finite,
    )


def greedy_free(
    backbone: Backbone, memory: Memory, end_id: int, max_tokens: int
) -> tuple[list[list[int]], Bool[Tensor, " batch"]]:
    """Returns the token ids that are written when every token of the vocabulary may follow (the paper's form).

    Beside them: whether all logits that a row was written by are numbers.

    Args:
        backbone: the model.
        memory: what it has read.
        end_id: the token that ends a target; it is the last one of each row that ended.
        max_tokens: where writing stops.
    """
    active = torch.ones(len(memory.state), dtype=torch.bool, device=memory.state.device)
    columns, masks = [], []
    finite = torch.ones_like(active)
    for step in range(max_tokens):
        finite = finite & ~memory.logits.isnan().any(dim=-1)
        token = memory.logits.argmax(dim=-1)
        columns.append(token)
        masks.append(active)
        active = active & (token != end_id)
        if step + 1 == max_tokens or not bool(active.any()):
            break
        memory = backbone.write(memory, token.unsqueeze(1), masks[-1].unsqueeze(1)).memory
    tokens, mask = torch.stack(columns, dim=1).cpu(), torch.stack(masks, dim=1).cpu()
    return [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)], finite


class Forest:
    """Prefixes of targets for each row, which grow together; a prefix that several share is written once.

    Args:
        backbone: the model.
        memory: what it has read.

    Attributes:
        logits: of the next token after each prefix that was written last, over the memory's vocabulary.
    """

    def __init__(self, backbone: Backbone, memory: Memory) -> None:
        self.backbone = backbone
        self.memory = memory
        self.logits: Float[Tensor, "batch beginning kept"] = memory.logits.unsqueeze(1)
        self._tree: Tree | None = None
        self._seen = memory.mask[:, :1, None][:, :, :0]  # the nodes of each beginning
        self._depth = 0

    def write(self, tokens: Int[Tensor, "batch new"], parents: Int[Tensor, "batch new"]) -> None:
        """Writes a token behind some beginnings; one may be gone on with several times, or no more.

        Args:
            tokens: the tokens.
            parents: the index of the beginning that each follows.
        """
        self._depth += 1
        num_new = tokens.shape[1]
        above = self._seen.gather(1, parents.unsqueeze(2).expand(-1, -1, self._seen.shape[2]))
        itself = torch.eye(num_new, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
        self._seen = torch.cat([above, itself], dim=2)
        written = self.backbone.write_tree(
            self.memory, tokens, torch.full_like(tokens, self._depth), self._seen, self._tree
        )
        self.logits, self._tree = written.logits, written.tree

    def write_distinct(
        self,
        codec: Codec,
        parents: Int[Tensor, "batch draw"],
        symbols: Int[Tensor, "batch draw"],
        active: Bool[Tensor, "batch draw"],
    ) -> Int[Tensor, "batch draw"]:
        """Writes a symbol behind each draw's beginning, equal ones once, and returns each draw's new index.

        Args:
            codec: whose symbols they are.
            parents: the index of each draw's beginning.
            symbols: the symbol that each draw adds.
            active: draws that go on; the others get any index.
        """
        keys = (parents * codec.num_symbols + symbols).masked_fill(~active, -1)
        distinct_keys = [keys_of_row[keys_of_row >= 0].unique() for keys_of_row in keys]
        # A row with fewer distinct keys is padded; what is written for the padding is never used.
        distinct = nn.utils.rnn.pad_sequence(distinct_keys, batch_first=True)
        self.write(codec.symbols[distinct % codec.num_symbols], distinct // codec.num_symbols)
        indices = [
            torch.searchsorted(distinct_of_row, keys_of_row).clamp(max=max(len(distinct_of_row) - 1, 0))
            for distinct_of_row, keys_of_row in zip(distinct_keys, keys, strict=True)
        ]
        return torch.stack(indices)


@torch.no_grad()
def beam(symbols: SymbolModel, memory: Memory, *, width: int, with_states: bool) -> Decoded:
    """Returns the likeliest targets that beam search finds along the automaton.

    Args:
        symbols: the model of symbols.
        memory: what it has read.
        width: the prefixes that are kept at each step; a target is missed only where one of its prefixes is not.
        with_states: also return H[1..m].
    """
    codec, rows, device = symbols.codec, len(memory.state), memory.state.device
    state = torch.zeros(rows, 1, dtype=torch.long, device=device)
    scores = torch.zeros(rows, 1, device=device)
    paths = torch.zeros(rows, 1, 0, dtype=torch.long, device=device)
    masks = torch.zeros(rows, 1, 0, dtype=torch.bool, device=device)
    finite = torch.ones(rows, dtype=torch.bool, device=device)
    forest = Forest(symbols.backbone, memory)
    while True:
        active = state != codec.accepting_state
        steps, is_finite = symbols.choices(memory, forest.logits, state)
        finite = finite & (is_finite | ~active).all(dim=1)
        # A target that is ended stays as it is, at no cost.
        stay = torch.full_like(steps, float("-inf"))
        stay[..., 0] = 0.0
        total = scores.unsqueeze(-1) + torch.where(active.unsqueeze(-1), steps, stay)
        scores, best = total.flatten(1).topk(min(width, total[0].numel()), dim=1)
        parents, chosen = best // codec.num_symbols, best % codec.num_symbols
        was_active = active.gather(1, parents)
        before = state.gather(1, parents)
        # If there are fewer prefixes than the beam's width, the rest are impossible (−inf).
        possible = scores > float("-inf")
        state = torch.where(was_active & possible, codec.transitions[before, chosen], before)
        state = torch.where(possible, state, torch.full_like(state, codec.accepting_state))
        paths, masks = (
            torch.cat([kept.gather(1, parents.unsqueeze(-1).expand(-1, -1, kept.shape[2])), new.unsqueeze(-1)], dim=2)
            for kept, new in ((paths, chosen.masked_fill(~was_active, 0)), (masks, was_active))
        )
        if not bool((state != codec.accepting_state).any()):
            break
        forest.write(codec.symbols[paths[..., -1]], parents)
    return write_paths(symbols, memory, paths[:, 0], masks[:, 0], finite, with_states=with_states)


def write_paths(
    symbols: SymbolModel,
    memory: Memory,
    paths: Int[Tensor, "batch target"],
    mask: Bool[Tensor, "batch target"],
    finite: Bool[Tensor, " batch"],
    *,
    with_states: bool,
) -> Decoded:
    """Returns paths that were chosen as written targets, with their states if asked for."""
    return Decoded(paths, mask, symbols.write(memory, paths, mask).states[:, 1:] if with_states else None, finite)


@torch.no_grad()
def sample(symbols: SymbolModel, memory: Memory, *, number: int, seed: int = 0) -> list[list[tuple[int, ...]]]:
    """Returns targets that are drawn from the Writer's distribution along the automaton, some for each row.

    Args:
        symbols: the model of symbols; tokens that are not allowed are never drawn.
        memory: what it has read.
        number: how many for each row.
        seed: of the draws; equal calls draw alike.
    """
    backbone, codec, device = symbols.backbone, symbols.codec, memory.state.device
    generator = torch.Generator().manual_seed(seed)
    rows: list[list[tuple[int, ...]]] = []
    # As many rows at a time as fit into one write, if all of their draws differ.
    for group in torch.split(torch.arange(len(memory.state), device=device), max(1, SAMPLED_ROWS // number)):
        forest = Forest(backbone, memory if len(group) == len(memory.state) else backbone.take(memory, group))
        state = torch.zeros(len(group), number, dtype=torch.long, device=device)
        beginning = torch.zeros_like(state)  # of each draw, among those of the forest
        columns: list[Tensor] = []
        active = state != codec.accepting_state
        while bool(active.any()):
            logits = forest.logits.gather(1, beginning.unsqueeze(2).expand(-1, -1, forest.logits.shape[2]))
            scores, _ = symbols.choices(memory, logits, state)
            uniform = torch.rand(scores.flatten(0, 1).shape, generator=generator).clamp(min=torch.finfo().tiny)
            # The largest of log-probability plus Gumbel noise is a draw from the softmax.
            noise = -(-uniform.log()).log().to(device).view_as(scores)
            symbol = (scores.float() + noise).argmax(dim=-1)
            columns.append(symbol.masked_fill(~active, -1))
            state = torch.where(active, codec.transitions[state, symbol], state)
            active = state != codec.accepting_state
            if bool(active.any()):
                beginning = forest.write_distinct(codec, beginning, symbol, active)
        drawn = torch.stack(columns, dim=2).tolist()
        rows += [[tuple(symbol for symbol in path if symbol >= 0) for path in paths] for paths in drawn]
    return rows
