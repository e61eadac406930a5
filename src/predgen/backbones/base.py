"""The one interface that every kind of language model stands behind.

`read` a prompt into a memory; `write` target tokens over it and get their states and logits. Nothing above this
module asks which kind of model it is, or on which side it pads.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.errors import BackboneError

# Rows that the plain road of a tree writes at once.
EXPANDED_ROWS = 512


@dataclass(frozen=True)
class Memory:
    """What a model keeps of what it has read (and written) so far. A memory is never changed; a write forks it.

    Attributes:
        prompt_states: the last layer's states of the prompt tokens.
        prompt_mask: which of them are prompt tokens and not padding.
        state: H[0], the state that predicts the next token.
        logits: the logits of the next token, of all tokens or of those that were asked for.
        tokens: all tokens that the writing part of the model has seen so far, padded.
        mask: which of them are not padding.
        cache: the backbone's own; None on the plain road.
        vocabulary: the tokens whose logits are wanted, in their order; None for all. What is written over the memory
            follows it.
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
    """What comes of writing m tokens over a memory.

    Attributes:
        states: H[0..m], one more than the written tokens; H[t] is the state at the t-th written token.
        logits: the logits that follow each of these states, of the memory's vocabulary.
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
    """What comes of writing the nodes of a tree over a memory, which can grow further.

    Attributes:
        states: the state at each node that was written last.
        logits: the logits that follow it, of the memory's vocabulary.
        tree: all nodes so far.
    """

    states: Float[Tensor, "batch node hidden"]
    logits: Float[Tensor, "batch node kept"]
    tree: "Tree"


@dataclass(frozen=True)
class Tree:
    """Tokens over a memory, some of which follow the same ones.

    Attributes:
        tokens: the token of each node; parents come before their children.
        depths: 1 for the nodes that follow the memory, one more for their children.
        ancestors: which nodes each node sees, itself included.
        cache: the backbone's own, of the memory and all nodes; None where they are written anew.
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
        """Returns the tree with nodes added, which see some of the nodes so far, themselves, and some before them."""
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
        none = memory.tokens[:, :0]
        return cls(none, none, memory.mask[:, :0].unsqueeze(2)[:, :, :0], memory.cache)


class Backbone(nn.Module, ABC):
    """A pretrained language model with its tokenizer.

    Attributes:
        model: the Hugging Face model, or its PEFT wrapper.
        tokenizer: the Hugging Face tokenizer.
        hidden_size: size of the states of written tokens.
        prompt_size: size of the states of prompt tokens.
        end_id: the token that ends a target.
        added_token_ids: tokens that had to be added to write the target.
        is_placed: whether the model was put on its devices when it was loaded, and stays there.
        pooling: what a head over the prompt reads best: the state of its last token where no token sees those after it,
            their mean elsewhere.
    """

    model: Any
    tokenizer: Any
    hidden_size: int
    prompt_size: int
    end_id: int
    added_token_ids: list[int]
    is_placed: bool = False
    pooling: Literal["last", "mean"]

    @abstractmethod
    def prompt_states(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
    ) -> Float[Tensor, "batch prompt prompt_hidden"]:
        """Returns the last layer's states of a batch of prompts: all that a method that writes nothing needs."""

    @abstractmethod
    def read(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> Memory:
        """Returns the memory of a batch of prompts, with gradients if they are on.

        Args:
            tokens: prompt tokens.
            mask: which of them are not padding.
            vocabulary: as in `Memory`: a few tokens' logits are cheaper than all.
        """

    @abstractmethod
    def write(self, memory: Memory, tokens: Int[Tensor, "batch target"], mask: Bool[Tensor, "batch target"]) -> Written:
        """Returns the states and logits of tokens written over a memory, which stays as it is.

        Args:
            memory: what was read.
            tokens: the tokens, padded on the right.
            mask: which of them are not padding.
        """

    @abstractmethod
    def layer_states(
        self,
        tokens: Int[Tensor, "batch prompt"],
        mask: Bool[Tensor, "batch prompt"],
        target: Int[Tensor, "batch target"],
        target_mask: Bool[Tensor, "batch target"],
    ) -> LayerStates:
        """Returns the states of prompts and of targets written after them, at every layer, to look into the model.

        The last ones are those of `prompt_states` and `write`. At padding they may be anything.

        Args:
            tokens: prompt tokens, padded as `collate` pads them.
            mask: which of them are not padding.
            target: the tokens to write, padded on the right; there may be none.
            target_mask: which of them are not padding.
        """

    @abstractmethod
    def take(self, memory: Memory, rows: Int[Tensor, " taken"]) -> Memory:
        """Returns the memory of some of its rows, in the order given; a row may be taken several times."""

    def write_tree(
        self,
        memory: Memory,
        tokens: Int[Tensor, "batch node"],
        depths: Int[Tensor, "batch node"],
        ancestors: Bool[Tensor, "batch node all"],
        before: Tree | None = None,
    ) -> TreeWritten:
        """Returns the states and logits of nodes of a tree for each row, over a memory, which stays as it is.

        This is the plain road: each branch is written as a row of its own, some branches at a time.

        Args:
            memory: what was read.
            tokens: the token of each node; parents come before their children.
            depths: 1 for the nodes that follow the memory, one more for their children.
            ancestors: which nodes each node sees, itself included; those of the tree before stand first.
            before: the nodes that were written before, over the same memory.
        """
        tree = (before or Tree.empty(memory)).grown(tokens, depths, ancestors)
        first = tree.tokens.shape[1] - tokens.shape[1]
        tips = (tree.ancestors.sum(dim=1) == 1).nonzero()  # (row, node): no other node sees it
        tips = tips[tips[:, 1] >= first]
        states: list[list[Any]] = [[None] * tokens.shape[1] for _ in tokens]
        logits: list[list[Any]] = [[None] * tokens.shape[1] for _ in tokens]
        for part in torch.split(tips, EXPANDED_ROWS):
            rows, branches = part[:, 0], [tree.ancestors[row, tip].nonzero().squeeze(-1) for row, tip in part.tolist()]
            target = nn.utils.rnn.pad_sequence(
                [tree.tokens[row, branch] for row, branch in zip(rows, branches, strict=True)], batch_first=True
            )
            lengths = torch.tensor([len(branch) for branch in branches], device=tokens.device)
            mask = torch.arange(target.shape[1], device=tokens.device) < lengths.unsqueeze(1)
            written = self.write(self.take(memory, rows), target, mask)
            for index, (row, branch) in enumerate(zip(rows.tolist(), branches, strict=True)):
                for depth, node in enumerate(branch.tolist(), start=1):
                    if node >= first:
                        states[row][node - first] = written.states[index, depth]
                        logits[row][node - first] = written.logits[index, depth]
        written_states, written_logits = (
            torch.stack([torch.stack(row) for row in parts]) for parts in (states, logits)
        )
        return TreeWritten(written_states, written_logits, tree)

    @abstractmethod
    def detach(self, memory: Memory) -> Memory:
        """Returns the memory without its graph of gradients."""

    @property
    def frame(self) -> dict[str, Any]:
        """What stands around prompts and before targets, as JSON holds it; nothing for models without such tokens."""
        return {}

    def use_frame(self, frame: dict[str, Any]) -> None:
        """Puts around prompts and before targets what `frame` had."""

    def start_writer(self) -> None:
        """Draws what is not pretrained of the part that writes, from torch's random state; nothing for most models."""

    def new_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that are not pretrained, which learn at the heads' rate."""
        return []

    def checkpoint_activations(self) -> None:
        """Lets the model compute its activations again in the backward pass instead of keeping them.

        Raises:
            BackboneError: it cannot.
        """
        raise BackboneError("Expected a model that can checkpoint its activations, found one that cannot.")

    @abstractmethod
    def freeze_writer(self) -> None:
        """Keeps what only writing needs from being trained, or it would wait for gradients that never come."""

    @abstractmethod
    def longest_prompt(self, num_target: int) -> int:
        """Returns the most tokens that a prompt may have before a target of some tokens."""

    @abstractmethod
    def collate(
        self, prompts: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"]]:
        """Returns prompts as one padded batch and its mask."""

    @abstractmethod
    def tokenize_prompts(self, texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Returns each text's tokens and their spans of characters, as the model expects a prompt."""

    @abstractmethod
    def symbol_id(self, character: str) -> int:
        """Returns the one token of a character that numbers, sets and records are written with."""

    @abstractmethod
    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of each label's word, all with or all without a leading space."""

    @abstractmethod
    def add_token(self, piece: str) -> int:
        """Returns the id of a token that the vocabulary lacked, with a row of its own in the embeddings."""

    @abstractmethod
    def text_of(self, ids: Sequence[int]) -> str:
        """Returns the text of written tokens."""


def continued(
    memory: Memory,
    written: tuple[Float[Tensor, "batch target hidden"], Float[Tensor, "batch target kept"]],
    target_mask: Bool[Tensor, "batch target"],
    **seen: Any,
) -> Written:
    """Returns what comes of a write, from the states and logits of its tokens.

    Args:
        memory: what was written over.
        written: the states at the tokens, and the logits that follow them.
        target_mask: which of the tokens are not padding.
        seen: the tokens, their mask and the cache of the memory with the tokens added.
    """
    states = torch.cat([memory.state.unsqueeze(1), written[0]], dim=1)
    logits = torch.cat([memory.logits.unsqueeze(1), written[1]], dim=1)
    # What comes next follows each row's last token, not its padding; a row without a token is where it was.
    rows, last = torch.arange(len(target_mask), device=target_mask.device), target_mask.sum(dim=1)
    after = replace(memory, state=states[rows, last], logits=logits[rows, last], **seen)
    return Written(states, logits, after)


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
    """Puts a module and all of its parts into evaluation, and back as each was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
