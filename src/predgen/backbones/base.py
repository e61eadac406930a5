"""What a backbone returns: the memory of what it has read, the states and logits of what it has written, trees."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Memory:
    """What a model keeps of what it has read and written so far. A memory is never changed; a write forks it.

    Attributes:
        prompt_states: the last layer's states of the prompt tokens.
        prompt_mask: which of them are prompt tokens and not padding.
        state: H[0], the state that predicts the next token.
        logits: the logits of the next token, over `vocabulary`.
        tokens: all tokens that the writing part of the model has seen so far, padded.
        mask: which of them are not padding.
        cache: the keys and values of these tokens; None on the uncached path.
        vocabulary: the ids of the tokens that logits are computed for, in their order; None for all tokens. A write
            over the memory computes logits of the same tokens.
    """

    prompt_states: Float[Tensor, "batch prompt prompt_hidden"]
    prompt_mask: Bool[Tensor, "batch prompt"]
    state: Float[Tensor, "batch hidden"]
    logits: Float[Tensor, "batch kept"]
    tokens: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]
    cache: Any
    vocabulary: Int[Tensor, " kept"] | None = None


@dataclass(frozen=True)
class Written:
    """The result of writing m tokens over a memory.

    Attributes:
        states: H[0..m], one more than the written tokens; H[t] is the state at the t-th written token.
        logits: the logits that follow each of these states, over the memory's vocabulary.
        memory: the memory with the tokens added.
    """

    states: Float[Tensor, "batch step hidden"]
    logits: Float[Tensor, "batch step kept"]
    memory: Memory


@dataclass(frozen=True)
class LayerStates:
    """The states of prompt and target at every layer: the embeddings first, the last layer's last.

    Layers may differ in size (OPT-350m).

    Attributes:
        prompt: at the tokens of the prompt.
        written: at the tokens of the target.
    """

    prompt: list[Float[Tensor, "batch prompt _"]]
    written: list[Float[Tensor, "batch target _"]]


@dataclass(frozen=True)
class TreeWritten:
    """The result of writing nodes of a tree over a memory; the tree can grow further.

    Attributes:
        states: the state at each node that was written last.
        logits: the logits that follow it, over the memory's vocabulary.
        tree: all nodes so far.
    """

    states: Float[Tensor, "batch node hidden"]
    logits: Float[Tensor, "batch node kept"]
    tree: "Tree"


@dataclass(frozen=True)
class Tree:
    """Several continuations of a memory that share their first tokens.

    Attributes:
        tokens: the token of each node; parents come before their children.
        depths: 1 for the nodes that follow the memory, one more for their children.
        ancestors: which nodes each node sees, itself included.
        cache: the keys and values of the memory and all nodes; None where a write computes all nodes anew.
    """

    tokens: Int[Tensor, "batch node"]
    depths: Int[Tensor, "batch node"]
    ancestors: Bool[Tensor, "batch node node"]
    cache: Any = None

    def grown(
        self,
        tokens: Int[Tensor, "batch new"],
        depths: Int[Tensor, "batch new"],
        ancestors: Bool[Tensor, "batch new all"],
        cache: Any = None,
    ) -> "Tree":
        """Returns the tree with nodes added.

        Args:
            tokens: the token of each new node.
            depths: 1 for the nodes that follow the memory, one more for their children.
            ancestors: which of the nodes so far and of the new ones each new node sees, itself included.
            cache: the keys and values of the memory and all nodes.
        """
        above = nn.functional.pad(self.ancestors, (0, tokens.shape[1]))
        return Tree(
            torch.cat([self.tokens, tokens], dim=1),
            torch.cat([self.depths, depths], dim=1),
            torch.cat([above, ancestors], dim=1),
            cache,
        )

    @classmethod
    def empty(cls, memory: Memory) -> "Tree":
        """Returns a tree without nodes over a memory."""
        no_tokens = memory.tokens[:, :0]
        return cls(no_tokens, no_tokens, memory.mask[:, :0].unsqueeze(2)[:, :, :0], memory.cache)


def continued(
    memory: Memory,
    states: Float[Tensor, "batch target hidden"],
    logits: Float[Tensor, "batch target kept"],
    target_mask: Bool[Tensor, "batch target"],
    **seen: Any,
) -> Written:
    """Returns the result of a write over a memory, from the states and logits of its tokens.

    Args:
        memory: the memory that was written over.
        states: the states at the tokens.
        logits: the logits that follow them.
        target_mask: which of the tokens are not padding.
        seen: `tokens`, `mask` and `cache` of the memory with the tokens added.
    """
    states = torch.cat([memory.state.unsqueeze(1), states], dim=1)
    logits = torch.cat([memory.logits.unsqueeze(1), logits], dim=1)
    # What comes next follows each row's last token, not its padding; a row without a token is where it was.
    rows, last = torch.arange(len(target_mask), device=target_mask.device), target_mask.sum(dim=1)
    after = replace(memory, state=states[rows, last], logits=logits[rows, last], **seen)
    return Written(states, logits, after)


def logits_over(
    logits: Float[Tensor, "*batch vocab"], vocabulary: Int[Tensor, " kept"] | None
) -> Float[Tensor, "*batch kept"]:
    """Returns the logits of some tokens; of all tokens if the vocabulary is None."""
    return logits if vocabulary is None else logits[..., vocabulary]


def compact(
    tokens: Int[Tensor, "batch length"], mask: Bool[Tensor, "batch length"], *, left: bool = False
) -> tuple[Int[Tensor, "batch kept"], Bool[Tensor, "batch kept"]]:
    """Returns the tokens that the mask keeps, in their order, padded on the right, or on the left."""
    length = int(mask.sum(dim=1).max())
    order = (mask if left else ~mask).to(torch.int8).argsort(dim=1, stable=True)
    order = order[:, -length:] if left else order[:, :length]
    return tokens.gather(1, order), mask.gather(1, order)


@contextmanager
def dropout_off(module: nn.Module) -> Iterator[None]:
    """Puts a module and all of its submodules into evaluation mode, and puts each back into the mode that it had."""
    training = [submodule for submodule in module.modules() if submodule.training]
    module.eval()
    try:
        yield
    finally:
        for submodule in training:
            submodule.training = True
