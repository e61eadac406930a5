"""The first prefixes of all targets, and one path of each row beside them, in one forward with the prompt."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones import Memory
from predgen.codec.trie import Trie
from predgen.writing.symbols import SymbolModel


@dataclass(frozen=True)
class Prefixes:
    """The first nodes of a trie, and a path of each row beside them, from one write.

    Attributes:
        point_scores: log P of each symbol at the root and at these nodes, in nats.
        states: of these nodes.
        logits: of the memory's vocabulary, at H[0..] along the row's path.
    """

    point_scores: Float[Tensor, "batch point symbol"]
    states: Float[Tensor, "batch node hidden"]
    logits: Float[Tensor, "batch step kept"]


def read_prefixes_and_path(
    symbols: SymbolModel,
    prompt: tuple[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"]],
    trie: Trie,
    num_nodes: int,
    path: Int[Tensor, "batch step"],
) -> tuple[Memory, Prefixes]:
    """Returns the memory of prompts, the first nodes of a trie and a path of each row, from one forward.

    Args:
        symbols: the language model.
        prompt: the prompts' tokens, and which of them are not padding.
        trie: the targets.
        num_nodes: how many nodes.
        path: symbols that follow each prompt one after the other; padding comes last.
    """
    length, device = path.shape[1], path.device
    depths = torch.cat([trie.depths[:num_nodes], torch.arange(1, length + 1, device=device)])
    beside = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    ancestors = beside.new_zeros(num_nodes + length, num_nodes + length)
    ancestors[:num_nodes, :num_nodes] = trie.ancestors[:num_nodes, :num_nodes]
    ancestors[num_nodes:, num_nodes:] = beside
    nodes = torch.cat([trie.symbols[:num_nodes].expand(len(path), -1), path], dim=1)
    memory, written = symbols.backbone.read_tree(
        prompt,
        symbols.codec.symbols[nodes],
        depths.expand(len(path), -1),
        ancestors.expand(len(path), -1, -1),
        symbols.vocabulary,
    )
    scores = trie.point_scores(memory.logits, written.logits[:, :num_nodes], vocabulary=memory.vocabulary)
    logits = torch.cat([memory.logits.unsqueeze(1), written.logits[:, num_nodes:]], dim=1)
    return memory, Prefixes(scores, written.states[:, :num_nodes], logits)
