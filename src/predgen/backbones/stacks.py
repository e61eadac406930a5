"""The stacks of layers of a model, and which of their modules are trained where only the last layers are."""

from typing import Any

from torch import nn

from predgen.errors import BackboneError


def last_layers(model: Any, count: int | None) -> dict[str, nn.Module]:
    """Returns the last layers of each of the model's stacks, by name; an encoder-decoder has two stacks.

    Args:
        model: a model of transformers.
        count: how many of each stack; None for all.

    Raises:
        BackboneError: the model has no stack of layers, or fewer layers.
    """
    stacks = _stacks(model)
    shortest = min(map(len, stacks.values()), default=0)
    if count is not None and shortest < count:
        raise BackboneError(
            f"Expected trained_layers of at most {shortest}, the layers of this model, found {count}. Leave it out to "
            "train all of them."
        )
    return {
        f"{name}.{index}": layer
        for name, stack in stacks.items()
        for index, layer in enumerate(stack)
        if count is None or index >= len(stack) - count
    }


def outside(names: list[str], layers: dict[str, nn.Module]) -> list[str]:
    """Returns the names that belong to no layer."""
    return [name for name in names if not name.startswith(tuple(f"{layer}." for layer in layers))]


def _stacks(model: Any) -> dict[str, nn.ModuleList]:
    """Returns the lists of layers of one class that no other list holds, by name."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and module}
    return {
        name: module
        for name, module in lists.items()
        if len({type(layer) for layer in module}) == 1
        and not any(name.startswith(f"{other}.") for other in lists if other != name)
    }
