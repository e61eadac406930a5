"""The check at load: a backbone's paths are tried on random tokens, and what is not exact is not used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from predgen.backbones.backbone import Backbone, Capabilities
from predgen.backbones.base import Memory, dropout_off
from predgen.backbones.frozen_layers import FrozenLayers

# Largest relative difference of states between two paths that counts as equal.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 1e-1}
# The same for weights of 4 or 8 bits, whose activations are rounded too.
QUANTIZED_TOLERANCE = 0.2


@dataclass(frozen=True)
class Sample:
    """Two prompts of unequal lengths, a target, and a tree of targets, all of random tokens.

    Attributes:
        prompts: the tokens of each.
        target: tokens to write after each.
        mask: which of them are not padding; one in the middle is padding.
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
            prompt_vocabulary: how many tokens prompts are drawn from.
            target_vocabulary: how many tokens targets are drawn from.
            device: where the target is.
            longer: how many tokens each prompt has beyond a few.
        """
        generator = torch.Generator().manual_seed(0)
        lengths = (7 + longer, 3 + longer)
        prompts = [torch.randint(prompt_vocabulary, (length,), generator=generator).tolist() for length in lengths]
        target = torch.randint(target_vocabulary, (2, 3), generator=generator).to(device)
        mask = torch.tensor([[True, True, True], [True, False, True]], device=device)
        tree_of_a_row = (
            torch.randint(target_vocabulary, (5,), generator=generator),
            torch.tensor([1, 1, 2, 2, 2]),
            torch.tensor([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1]]).bool(),
        )
        tokens, depths, ancestors = (values.expand(2, *values.shape).to(device) for values in tree_of_a_row)
        return cls(prompts, target, mask, (tokens, depths, ancestors))

    @property
    def targets(self) -> list[Int[Tensor, " target"]]:
        """The tokens of each target, without padding."""
        return [tokens[mask] for tokens, mask in zip(self.target, self.mask, strict=True)]


# The states of a target after its prompt, both of one unpadded row, by the model's own masks and positions; the first
# is the state that predicts the target's first token.
StatesAlone = Callable[[Int[Tensor, " prompt"], Int[Tensor, " target"]], Float[Tensor, "step hidden"]]


def find_capabilities(
    backbone: Backbone, candidates: Sequence[Capabilities], sample: Sample, states_alone: StatesAlone
) -> tuple[Capabilities, float]:
    """Returns the first candidate that is exact, else the last one, and its relative difference to unpadded rows.

    The backbone is left with the last candidate that was tried.

    Args:
        backbone: the model, in evaluation mode.
        candidates: what to try, the fastest first; the last is the uncached path, whose errors are raised.
        sample: random tokens.
        states_alone: gives the states to compare with.
    """
    for index, candidate in enumerate(candidates):
        backbone.capabilities = candidate
        try:
            difference = _difference_to_unpadded(backbone, sample, states_alone)
        except Exception:  # a family that keeps another kind of memory breaks on this cache (LFM2)
            if index == len(candidates) - 1:
                raise
            continue
        if difference <= tolerance_of(backbone):
            if candidate.masks_trees and not _writes_trees(backbone, sample):
                candidate = replace(candidate, masks_trees=False)
            return candidate, difference
    return candidate, difference


@torch.no_grad()
def keeps_states(backbone: Any, sample: Sample, frozen: FrozenLayers) -> bool:
    """Returns whether prompts that are read over kept states, and what is written over them, are as if read anew.

    Args:
        backbone: a decoder-only model.
        sample: random tokens.
        frozen: its first layers, with nothing kept; the second reading has what the first one kept.
    """
    with dropout_off(backbone):
        expected = torch.cat(_write(backbone, sample))
        backbone.frozen_layers = frozen
        try:
            found = [torch.cat(_write(backbone, sample)) for _ in range(2)]
        except Exception:  # a family whose layers return, or take, something else
            return False
        finally:
            backbone.frozen_layers = None
    return max(relative_difference(states, expected) for states in found) <= tolerance_of(backbone)


def tolerance_of(backbone: Backbone) -> float:
    """Returns the largest relative difference of states that counts as equal in the type of a model's weights."""
    if backbone.is_quantized:
        return QUANTIZED_TOLERANCE
    return TOLERANCE.get(next(backbone.model.parameters()).dtype, 1e-3)


def relative_difference(values: Tensor, expected: Tensor) -> float:
    """Returns |values − expected| / |expected|, in Euclidean norms; infinite where it is NaN."""
    difference = float((values.float() - expected.float()).norm() / expected.float().norm())
    return difference if difference == difference else float("inf")


def _difference_to_unpadded(backbone: Backbone, sample: Sample, states_alone: StatesAlone) -> float:
    """Returns the largest relative difference between reading and writing padded rows, and unpadded forwards."""
    worst = 0.0
    for prompt, target, states in zip(sample.prompts, sample.targets, _write(backbone, sample), strict=True):
        expected = states_alone(torch.tensor(prompt, device=backbone.device), target)
        worst = max(worst, relative_difference(states, expected))
    return worst


def _read(backbone: Backbone, sample: Sample) -> Memory:
    tokens, mask = (values.to(backbone.device) for values in backbone.collate(sample.prompts))
    return backbone.read(tokens, mask)


def _write(backbone: Backbone, sample: Sample) -> list[Float[Tensor, "step hidden"]]:
    """Returns each row's H[0..m] of its target; its last token is written by itself, after padding in one row."""
    memory, mask = _read(backbone, sample), sample.mask
    first = backbone.write(memory, sample.target[:, :-1], mask[:, :-1])
    last = backbone.write(first.memory, sample.target[:, -1:], mask[:, -1:])
    states = torch.cat([first.states, last.states[:, 1:]], dim=1)
    kept = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
    return [row_states[row_kept] for row_states, row_kept in zip(states, kept, strict=True)]


def _writes_trees(backbone: Backbone, sample: Sample) -> bool:
    """Returns whether a tree in one forward, or in two, has the states of its branches written as rows."""
    memory = _read(backbone, sample)
    expected = Backbone.write_tree(backbone, memory, *sample.tree).states
    tokens, depths, ancestors = sample.tree
    first = 2
    worst = 0.0
    try:
        for some in (memory, replace(memory, cache=None)):  # without a cache, as under gradient checkpointing
            whole = backbone.write_tree(some, *sample.tree)
            begun = backbone.write_tree(some, tokens[:, :first], depths[:, :first], ancestors[:, :first, :first])
            rest = tokens[:, first:], depths[:, first:], ancestors[:, first:]
            grown = torch.cat([begun.states, backbone.write_tree(some, *rest, begun.tree).states], dim=1)
            worst = max(worst, *(relative_difference(states, expected) for states in (whole.states, grown)))
    except Exception:  # a family that takes no such mask (Bloom)
        return False
    return worst <= tolerance_of(backbone)
