"""Random tokens on which a backbone confirms at load that its roads are exact."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones.base import Backbone, Memory
from predgen.backbones.hugging_face import HuggingFaceBackbone, relative_difference


@dataclass(frozen=True)
class Sample:
    """Two prompts of unequal lengths, a target, and a tree of targets, all of random tokens.

    Attributes:
        prompts: the tokens of each.
        target: tokens to write after each.
        mask: which of them are not padding; one in the middle is.
        tree: a tree's tokens, depths and ancestors, as `Backbone.write_tree` takes them.
    """

    prompts: list[list[int]]
    target: Int[Tensor, "batch target"]
    mask: Bool[Tensor, "batch target"]
    tree: tuple[Int[Tensor, "batch node"], Int[Tensor, "batch node"], Bool[Tensor, "batch node node"]]

    @classmethod
    def of(cls, prompt_vocabulary: int, target_vocabulary: int, device: torch.device, *, longer: int = 0) -> "Sample":
        """Returns the same sample for the same sizes of vocabularies.

        Args:
            prompt_vocabulary: the tokens that prompts are made of.
            target_vocabulary: the tokens that targets are made of.
            device: where the target is.
            longer: how many tokens more than a few each prompt has.
        """
        generator = torch.Generator().manual_seed(0)
        lengths = (7 + longer, 3 + longer)
        prompts = [torch.randint(prompt_vocabulary, (length,), generator=generator).tolist() for length in lengths]
        target = torch.randint(target_vocabulary, (2, 3), generator=generator).to(device)
        mask = torch.tensor([[True, True, True], [True, False, True]], device=device)
        parts = (
            torch.randint(target_vocabulary, (5,), generator=generator),
            torch.tensor([1, 1, 2, 2, 2]),
            torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1]]).bool(),
        )
        tokens, depths, ancestors = (part.expand(2, *part.shape).to(device) for part in parts)
        return cls(prompts, target, mask, (tokens, depths, ancestors))

    @property
    def targets(self) -> list[Int[Tensor, " target"]]:
        """The tokens of each target, without padding."""
        return [tokens[mask] for tokens, mask in zip(self.target, self.mask, strict=True)]


def read_sample(backbone: HuggingFaceBackbone, sample: Sample) -> Memory:
    """Returns the memory of the sample's prompts."""
    tokens, mask = (part.to(backbone.device) for part in backbone.collate(sample.prompts))
    return backbone.read(tokens, mask)


def write_sample(backbone: HuggingFaceBackbone, sample: Sample) -> list[Float[Tensor, "step hidden"]]:
    """Returns each row's H[0..m] of its target; its last token is written by itself, after padding in one row."""
    memory, mask = read_sample(backbone, sample), sample.mask
    first = backbone.write(memory, sample.target[:, :-1], mask[:, :-1])
    last = backbone.write(first.memory, sample.target[:, -1:], mask[:, -1:])
    states = torch.cat([first.states, last.states[:, 1:]], dim=1)
    kept = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
    return [row[one] for row, one in zip(states, kept, strict=True)]


def tree_disagreement(backbone: HuggingFaceBackbone, sample: Sample, memories: list[Memory]) -> float:
    """Returns the largest relative difference between a tree in one forward, or in two, and its branches on their own.

    Args:
        backbone: the model.
        sample: random tokens.
        memories: of the sample's prompts, for each road that the backbone takes.
    """
    expected = Backbone.write_tree(backbone, memories[0], *sample.tree).states
    tokens, depths, ancestors = sample.tree
    first = 2
    worst = 0.0
    try:
        for memory in memories:
            whole = backbone.write_tree(memory, *sample.tree)
            begun = backbone.write_tree(memory, tokens[:, :first], depths[:, :first], ancestors[:, :first, :first])
            rest = tokens[:, first:], depths[:, first:], ancestors[:, first:]
            grown = torch.cat([begun.states, backbone.write_tree(memory, *rest, begun.tree).states], dim=1)
            worst = max(worst, *(relative_difference(states, expected) for states in (whole.states, grown)))
    except Exception:  # a family that takes no such mask (Bloom)
        return float("inf")
    return worst
