"""The settings of a run as the parameters of an estimator: one keyword each, documented from the setting."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from predgen.config import SECTIONS

EstimatorT = TypeVar("EstimatorT", bound=type)

# Settings of `data` that an estimator has; what the others say, it learns from X and y.
OF_DATA = ("template", "calibration", "split", "max_train_rows")
# scikit-learn cuts test rows by itself.
NO_TEST_PART = (0.9, 0.1, 0.0)
FOR_LABELS = ("label_text", "label_codes", "positive", "class_weights")
FOR_NUMBERS = ("low", "high", "decimals", "number_form", "number_format", "logarithmic")


def defaults_of(*of_data: str) -> dict[str, Any]:
    """Returns the parameters that an estimator has, with their defaults; None where the setting finds its own.

    Args:
        of_data: settings of `data` beside `OF_DATA`.
    """
    found: dict[str, Any] = {}
    for section, settings in SECTIONS.items():
        for name, field in settings.model_fields.items():
            if section != "data" or name in (*OF_DATA, *of_data):
                found[name] = None if field.default_factory is not None else field.default
    found["split"] = NO_TEST_PART
    return found


def takes_settings(*of_data: str) -> Callable[[EstimatorT], EstimatorT]:
    """Gives an estimator a keyword for each setting, and their descriptions.

    scikit-learn reads the parameters of an estimator from the signature of its `__init__`, and wants each as an
    attribute of its own name, unchanged.

    Args:
        of_data: as in `defaults_of`.
    """

    def given(estimator: EstimatorT) -> EstimatorT:
        defaults = {**defaults_of(*of_data), "verbose": False}

        def init(self: Any, **parameters: Any) -> None:
            unknown = sorted(set(parameters) - set(defaults))
            if unknown:
                raise TypeError(f"{estimator.__name__} has no parameter '{unknown[0]}'.")
            for name, default in defaults.items():
                setattr(self, name, parameters.get(name, default))

        keyword = inspect.Parameter.KEYWORD_ONLY
        init.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
                *(inspect.Parameter(name, keyword, default=default) for name, default in defaults.items()),
            ]
        )
        init.__doc__ = "Takes the parameters as they are; `fit` checks them."
        init.__name__, init.__qualname__ = "__init__", f"{estimator.__qualname__}.__init__"
        estimator.__init__ = init  # type: ignore[misc]
        estimator.__doc__ = f"{inspect.cleandoc(estimator.__doc__ or '')}\n\nArgs:\n{_described(of_data)}\n"
        return estimator

    return given


def _described(of_data: tuple[str, ...]) -> str:
    lines = []
    for settings in SECTIONS.values():
        for name, field in settings.model_fields.items():
            if name in defaults_of(*of_data):
                lines.append(f"    {name}: {field.description}.")
    return "\n".join([*lines, "    verbose: show progress."])
