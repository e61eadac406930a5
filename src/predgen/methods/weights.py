"""The weights that training changes."""

import torch
from torch import Tensor, nn

from predgen.adapters import chosen_indices

# Since 0.6.0 the predictor's head and the Director are one kind of module: what a name began with, and begins with now.
RENAMED = {
    "director.query.": "director.pooling.query.",
    "head.norm.": "head.mlp.norm.",
    "head.hidden.": "head.mlp.hidden.",
    "head.output.": "head.mlp.output.",
}


def trainable_weights(method: nn.Module) -> dict[str, Tensor]:
    """Returns the trainable parameters by name, each tied one once, and which rows they update, on the CPU."""
    return {name: values.detach().cpu().contiguous() for name, values in _trainable(method).items()}


def load_trainable_weights(method: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copies saved weights into a method; those of 0.6.0 go where their part is now.

    Raises:
        KeyError: names that are missing, or that the method does not have.
        ValueError: a shape or a type that differs, or a weight that is no finite number.
    """
    parameters = _trainable(method)
    weights = {_present_name(name): values for name, values in weights.items()}
    if set(parameters) != set(weights):
        raise KeyError(f"names differ, such as '{min(set(parameters) ^ set(weights))}'")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != weights[name].shape:
                raise ValueError(f"'{name}' has shape {tuple(weights[name].shape)}, not {tuple(parameter.shape)}")
            _check_values(name, weights[name], parameter)
            parameter.copy_(weights[name])


def _check_values(name: str, saved: Tensor, parameter: Tensor) -> None:
    """Refuses values that would be copied into a weight all the same, and mean nothing there."""
    # A float of other bits is taken; a whole number or a truth value in its place is not.
    both_float = saved.is_floating_point() and parameter.is_floating_point()
    if saved.dtype != parameter.dtype and not both_float:
        raise ValueError(f"'{name}' holds {saved.dtype}, not {parameter.dtype}")
    if not bool(saved.isfinite().all()):
        raise ValueError(f"'{name}' holds a value that is no finite number")


def _trainable(method: nn.Module) -> dict[str, Tensor]:
    parameters = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    return {**parameters, **chosen_indices(method)}


def _present_name(name: str) -> str:
    """Returns the present name of a saved weight."""
    for old, new in RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
