"""The interface of all kinds of language models: `read` a prompt into a memory, `write` target tokens over it.

A backbone is the network; it has `prompts`, which makes batches of texts, and `target_tokens`, the vocabulary that
targets are written with. Nothing above this folder asks which kind of model it is, or on which side it pads.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from predgen.backbones.base import LayerStates, Memory, Tree, TreeWritten, Written
from predgen.backbones.caches import detached, rows_of
from predgen.backbones.frozen_layers import KeptStates
from predgen.backbones.prompts import PlacedTokens, PromptTokens, SpecialTokens
from predgen.backbones.stacks import last_layers
from predgen.backbones.target_tokens import TargetTokens
from predgen.backbones.template import Template
from predgen.errors import BackboneError

# Rows that are written at once where each branch of a tree is a row of its own.
BRANCH_ROWS = 512


@dataclass(frozen=True)
class Capabilities:
    """What a model does exactly, so that its states equal those of unpadded rows.

    There are two paths to the same states: the cached path reads a prompt once and writes over its keys and values;
    the uncached path runs the whole text for each write.

    Attributes:
        cached: whether the cached path is taken.
        masks_trees: whether a tree is written in one forward under a 4-D mask.
        pads_inside: whether the model's own 2-D mask is right where a row has padding after its first token.
        linear_head: whether logits are a linear map of the last states, so that those of a few tokens can be computed
            alone.
    """

    cached: bool
    masks_trees: bool = False
    pads_inside: bool = False
    linear_head: bool = False


class Backbone(nn.Module, ABC):
    """A pretrained language model with its tokenizer.

    Attributes:
        title: what the kind of model is called.
        loader: the class of transformers that loads models of the kind.
        class_names: the name of each model's class in transformers, by its `model_type`.
        model: the Hugging Face model, or its PEFT wrapper.
        prompts: makes tokens and batches of texts.
        target_tokens: the vocabulary that targets are written with.
        hidden_size: size of the states of written tokens.
        prompt_size: size of the states of prompt tokens.
        end_id: the token that ends a target.
        max_positions: the most tokens that the model may see at once.
        capabilities: what the model can do exactly; a first guess until `choose_path` has tried it.
        is_placed: whether the model was put on its devices when it was loaded, and stays there.
        pooling: the best pooling of the prompt's states for a head: the last token's state where no token sees those
            after it, the mean elsewhere.
    """

    title: ClassVar[str]
    loader: ClassVar[Any]
    class_names: ClassVar[Mapping[str, Any]]
    model: Any
    prompts: PromptTokens
    target_tokens: TargetTokens
    hidden_size: int
    prompt_size: int
    end_id: int
    max_positions: int
    capabilities: Capabilities
    is_placed: bool = False
    pooling: Literal["last", "mean"]

    # ---- the kind

    @classmethod
    @abstractmethod
    def handles(cls, config: Any) -> bool:
        """Returns whether a model of this config is of this kind."""

    @classmethod
    def default_template(cls, inputs: Sequence[str], target: str) -> Template:
        """Returns the prompt that this kind reads best: a line for each input column, and the target's name."""
        return Template.default(inputs, target)

    # ---- the network

    @abstractmethod
    def prompt_states(
        self, tokens: Int[Tensor, "batch prompt"], mask: Bool[Tensor, "batch prompt"]
    ) -> Float[Tensor, "batch prompt prompt_hidden"]:
        """Returns the last layer's states of a batch of prompts; a method that writes nothing needs only these."""

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
            vocabulary: as in `Memory`: the logits of a few tokens cost less than those of all.
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

        The last layer's states are those of `prompt_states` and `write`. At padding they may be anything.

        Args:
            tokens: prompt tokens, padded as `collate` pads them.
            mask: which of them are not padding.
            target: the tokens to write, padded on the right; there may be none.
            target_mask: which of them are not padding.
        """

    def write_tree(
        self,
        memory: Memory,
        tokens: Int[Tensor, "batch node"],
        depths: Int[Tensor, "batch node"],
        ancestors: Bool[Tensor, "batch node all"],
        before: Tree | None = None,
    ) -> TreeWritten:
        """Returns the states and logits of nodes of a tree for each row, over a memory, which stays as it is.

        This is the plain form: each branch is written as a row of its own, some branches at a time.

        Args:
            memory: what was read.
            tokens: the token of each node; parents come before their children.
            depths: 1 for the nodes that follow the memory, one more for their children.
            ancestors: which nodes each node sees, itself included; the nodes of the tree before stand first.
            before: the nodes that were written before, over the same memory.
        """
        tree = (before or Tree.empty(memory)).grown(tokens, depths, ancestors)
        first = tree.tokens.shape[1] - tokens.shape[1]
        tips = (tree.ancestors.sum(dim=1) == 1).nonzero()  # (row, node): no other node sees it
        tips = tips[tips[:, 1] >= first]
        states: list[list[Any]] = [[None] * tokens.shape[1] for _ in tokens]
        logits: list[list[Any]] = [[None] * tokens.shape[1] for _ in tokens]
        for some in torch.split(tips, BRANCH_ROWS):
            rows, branches = some[:, 0], [tree.ancestors[row, tip].nonzero().squeeze(-1) for row, tip in some.tolist()]
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
        return TreeWritten(_stacked(states), _stacked(logits), tree)

    def read_tree(
        self,
        prompt: tuple[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"]],
        tokens: Int[Tensor, "batch node"],
        depths: Int[Tensor, "batch node"],
        ancestors: Bool[Tensor, "batch node node"],
        vocabulary: Int[Tensor, " kept"] | None = None,
    ) -> tuple[Memory, TreeWritten]:
        """Returns the memory of prompts, and the states and logits of the nodes of a tree after each.

        It is `read` and `write_tree`, for those who want both: one forward of all tokens may do. The memory may be
        without its keys and values then, so that another write over it reads the prompts again.

        Args:
            prompt: the prompts' tokens, and which of them are not padding.
            tokens: as in `write_tree`.
            depths: as there.
            ancestors: as there.
            vocabulary: as in `read`.
        """
        memory = self.read(*prompt, vocabulary)
        return memory, self.write_tree(memory, tokens, depths, ancestors)

    def take(self, memory: Memory, rows: Int[Tensor, " taken"]) -> Memory:
        """Returns the memory of some of its rows, in the order given; a row may be taken several times."""
        taken = {
            name: getattr(memory, name)[rows]
            for name in ("prompt_states", "prompt_mask", "state", "logits", "tokens", "mask")
        }
        return replace(memory, **taken, cache=None if memory.cache is None else rows_of(memory.cache, rows))

    def detach(self, memory: Memory) -> Memory:
        """Returns the memory without its graph of gradients."""
        return replace(
            memory,
            prompt_states=memory.prompt_states.detach(),
            state=memory.state.detach(),
            logits=memory.logits.detach(),
            cache=None if memory.cache is None else detached(memory.cache),
        )

    @abstractmethod
    def choose_path(self) -> None:
        """Sets `capabilities` to what the model can do exactly, tried on random tokens.

        Raises:
            BackboneError: even the uncached path disagrees with unpadded forwards. It would be silently wrong.
        """

    @abstractmethod
    def longest_prompt(self, num_target: int) -> int:
        """Returns the most tokens that a prompt may have before a target of some tokens."""

    # ---- training

    @property
    def added_writer(self) -> nn.Module | None:
        """The decoder beside a pretrained encoder, which is not pretrained; None where the model itself writes."""
        return None

    def start_writer(self) -> None:
        """Draws the added Writer's weights from torch's random state; does nothing where the model itself writes."""

    def new_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters that are not pretrained, which learn at the heads' rate."""
        return []

    @abstractmethod
    def freeze_writer(self) -> None:
        """Freezes what only writing needs, for methods that write nothing: it would never get a gradient."""

    def checkpoint_activations(self) -> None:
        """Lets the model compute its activations again in the backward pass instead of keeping them.

        Raises:
            BackboneError: it cannot.
        """
        model = self.bare_model
        if not getattr(model, "supports_gradient_checkpointing", False):
            raise BackboneError(
                f"Expected a model that can checkpoint its activations, found {type(model).__name__}, which cannot. "
                "Leave gradient_checkpointing out."
            )
        # The method's name since version 5.23 of transformers, and before.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        # Not reentrant: with frozen embeddings the other kind would find no gradient to go on from.
        enable({"use_reentrant": False})

    @property
    def _checkpoints_now(self) -> bool:
        """Whether activations are checkpointed now: a cache would come back empty, with only a warning."""
        return self.training and any(getattr(module, "gradient_checkpointing", False) for module in self.modules())

    def keep_frozen_states(self, kept: KeptStates | None, num_frozen: int = 0, *, writes: bool = True) -> bool:
        """Lets the first layers run once for each prompt, if that is exact; returns whether they do.

        They must be frozen, and the same in all models that share what is kept. Only decoder-only models can.

        Args:
            kept: what they made before; None to run them each time again.
            num_frozen: how many of the layers these are.
            writes: whether the keys and values are wanted too.
        """
        return False

    # ---- where the model is, and how exact its weights are

    @property
    def bare_model(self) -> Any:
        """The Hugging Face model without a PEFT wrapper around it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def layers(self) -> dict[str, nn.Module]:
        """The model's layers by name, in order; of an encoder-decoder those of one stack, then those of the other."""
        return last_layers(self.bare_model, None)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def is_quantized(self) -> bool:
        """Whether the weights have 4 or 8 bits."""
        return bool(getattr(self.bare_model, "is_quantized", False))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Moves or casts all submodules but a model that must stay where it was loaded."""
        if not (recurse and self.is_placed):
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, child in self.named_children():
            if name != "model":
                child._apply(fn)  # type: ignore[no-untyped-call]
        return self

    # ---- prompts and targets as tokens

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, of prompts and of targets."""
        return self.prompts.tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self.prompts.tokenizer = self.target_tokens.tokenizer = tokenizer

    @property
    def special_tokens(self) -> dict[str, Any]:
        """The special tokens around prompts and before targets, as JSON holds them."""
        return self.prompts.special_tokens.to_json()

    def use_special_tokens(self, values: dict[str, Any]) -> None:
        """Puts the special tokens around prompts and before targets that `special_tokens` gave."""
        self.prompts.special_tokens = SpecialTokens.from_json(values)
        self.target_tokens.plain = self.prompts.special_tokens.plain

    def tokenize_prompts(self, texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Returns each text's tokens, special tokens included, and the character spans of the tokens that are text."""
        return self.prompts.tokenize(texts)

    def tokenize_placed(self, texts: list[str]) -> list[PlacedTokens]:
        """Returns each text's tokens, and the character span of each, None for a special token around the texts."""
        return self.prompts.placed(texts)

    @property
    def prompt_embeddings(self) -> nn.Module:
        """The module that gives each token of a prompt its embedding."""
        module: nn.Module = self.bare_model.get_input_embeddings()
        return module

    def collate(
        self, prompts: Sequence[Sequence[int]]
    ) -> tuple[Int[Tensor, "batch prompt"], Bool[Tensor, "batch prompt"]]:
        """Returns prompts as one padded batch and its mask."""
        return self.prompts.collate(prompts)

    @property
    def pad_id(self) -> int:
        """The token that stands for padding in prompts."""
        return self.prompts.pad_id

    @property
    def tells_texts_apart(self) -> bool:
        """Whether tokens of a prompt's first text have another type than those of later ones."""
        return False

    @property
    def num_prompt_tokens(self) -> int:
        """How many tokens prompts can be made of: the rows of the embeddings."""
        return len(self.bare_model.get_input_embeddings().weight)

    @property
    def num_target_tokens(self) -> int:
        """How many tokens each step of writing has logits for."""
        return self.target_tokens.size

    @property
    def added_token_ids(self) -> list[int]:
        """Tokens that were added to the tokenizer and to the model's embeddings."""
        return self.target_tokens.added_token_ids

    def symbol_id(self, character: str) -> int:
        """Returns the single token of a character that numbers, sets and records are written with."""
        return self.target_tokens.symbol_id(character)

    def word_ids(self, words: Sequence[str]) -> list[list[int]]:
        """Returns the tokens of each label's word, all with or all without a leading space."""
        return self.target_tokens.word_ids(words)

    def add_token(self, piece: str) -> int:
        """Returns the id of a token that the vocabulary lacked, with a row of its own in the embeddings."""
        return self.target_tokens.add_token(piece)

    def text_of(self, ids: Sequence[int]) -> str:
        """Returns the text of written tokens, up to the end token."""
        return self.target_tokens.text_of(ids)


def _stacked(rows: Sequence[Sequence[Float[Tensor, " size"]]]) -> Float[Tensor, "row node size"]:
    return torch.stack([torch.stack(list(row)) for row in rows])
