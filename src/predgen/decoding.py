"""From a memory to written targets: greedy along the automaton or without it, and the scores of all targets."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones import Backbone, Memory
from predgen.codec import Codec
from predgen.trie import Trie

# Logits and mask of a tree together have at most this many cells; more rows are written in several parts.
TREE_CELLS = 100_000_000


@dataclass(frozen=True)
class Decoded:
    """Written targets.

    Attributes:
        symbols: the codec's symbols, the end symbol included; 0 where `mask` is false.
        mask: which positions were written.
        states: H[1..m] of the written tokens; None unless asked for.
    """

    symbols: Int[Tensor, "batch target"]
    mask: Bool[Tensor, "batch target"]
    states: Float[Tensor, "batch target hidden"] | None

    def paths(self) -> list[list[int]]:
        """Returns each row's symbols without padding."""
        return [row[kept].tolist() for row, kept in zip(self.symbols.cpu(), self.mask.cpu(), strict=True)]


def greedy(backbone: Backbone, memory: Memory, codec: Codec, *, with_states: bool, full: bool = False) -> Decoded:
    """Returns the targets that are written when each token is the likeliest one that the automaton allows.

    Tokens without a choice (a fixed point, a label's tail, the end token) are not decided: they are written together
    with their neighbor where every row of the batch is forced.

    Args:
        backbone: the model.
        memory: what it has read.
        codec: the target automaton.
        with_states: also return H[1..m], which costs one more write.
        full: as in `Codec.log_probabilities`; it does not change the choice.
    """
    state = torch.zeros(len(memory.state), dtype=torch.long, device=memory.state.device)
    all_symbols, all_masks, all_states = [], [], []
    active = state != codec.accepting_state
    while bool(active.any()):
        choice = codec.log_probabilities(memory.logits, state, full=full)
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
        symbols, mask = torch.stack(block, dim=1), torch.stack(masks, dim=1)
        all_symbols.append(symbols)
        all_masks.append(mask)
        if with_states or bool(active.any()):
            written = backbone.write(memory, codec.symbols[symbols], mask)
            memory = written.memory
            all_states.append(written.states[:, 1:])
    return Decoded(
        torch.cat(all_symbols, dim=1),
        torch.cat(all_masks, dim=1),
        torch.cat(all_states, dim=1) if with_states else None,
    )


def greedy_free(backbone: Backbone, memory: Memory, end_id: int, max_tokens: int) -> list[list[int]]:
    """Returns the token ids that are written when every token of the vocabulary may follow (the paper's form).

    Args:
        backbone: the model.
        memory: what it has read.
        end_id: the token that ends a target; it is the last one of each row that ended.
        max_tokens: where writing stops.
    """
    active = torch.ones(len(memory.state), dtype=torch.bool, device=memory.state.device)
    columns, masks = [], []
    for step in range(max_tokens):
        token = memory.logits.argmax(dim=-1)
        columns.append(token)
        masks.append(active)
        active = active & (token != end_id)
        if step + 1 == max_tokens or not bool(active.any()):
            break
        memory = backbone.write(memory, token.unsqueeze(1), masks[-1].unsqueeze(1)).memory
    tokens, mask = torch.stack(columns, dim=1).cpu(), torch.stack(masks, dim=1).cpu()
    return [row[kept].tolist() for row, kept in zip(tokens, mask, strict=True)]


def score_all(backbone: Backbone, memory: Memory, trie: Trie) -> Float[Tensor, "batch leaf"]:
    """Returns log P(target | prompt) in nats of every target of a trie, in its order, with gradients if they are on.

    Over the allowed symbols the probabilities of all targets sum to 1.
    """
    batch, num_vocab = memory.logits.shape
    if trie.num_nodes == 0:  # one symbol decides
        return trie.log_probabilities(memory.logits, memory.logits.unsqueeze(1)[:, :0])
    tokens = trie.codec.symbols[trie.symbols]
    cells = trie.num_nodes * (num_vocab + memory.tokens.shape[1] + trie.num_nodes)
    parts = []
    for rows in torch.split(torch.arange(batch, device=tokens.device), max(1, TREE_CELLS // cells)):
        part = memory if len(rows) == batch else backbone.take(memory, rows)
        written = backbone.write_tree(part, tokens, trie.depths, trie.ancestors)
        parts.append(trie.log_probabilities(part.logits, written.logits))
    return torch.cat(parts)
