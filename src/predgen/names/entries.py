"""The lines of the tables: a name's description, its implementation, and what else is asked of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """A name with nothing but its description and its implementation; the attributes are those of `Entry`."""

    description: str = ""
    path: str = ""


@dataclass(frozen=True)
class MethodChoice:
    """A method.

    Attributes:
        description: as in `Entry`.
        path: of its class.
        writes: whether it writes the target.
        has_heads: whether it has heads, with a learning rate of their own.
    """

    description: str
    path: str
    writes: bool = True
    has_heads: bool = True


@dataclass(frozen=True)
class PeftMethod:
    """What is trained of the backbone.

    The learning rates of `none` and `lora` are tuned, for each method by itself, on builtin:nano (width 256),
    SmolLM2-135M (576) and Gemma 3 270M (640); see docs/developers/log.md. DoRA and AdaLoRA have LoRA's; RoCoFT's is of
    the size that its paper uses.

    Attributes:
        title: what people call it.
        description: as in `Entry`.
        path: of a function that marks, in place, what is trained; its arguments are a backbone and an
            `predgen.adapters.applying.Update`.
        learning_rates: the default for each width that it was tuned at, narrowest first: one for all methods, or one
            for each.
        rank_setting: the setting of `model` that says how large the update is; empty where there is no update.
        is_tuned: whether the learning rates were tuned for it.
    """

    title: str
    description: str
    path: str
    learning_rates: Mapping[int, float | Mapping[str, float]]
    rank_setting: str = "lora_rank"
    is_tuned: bool = False

    def learning_rate(self, width: int, method: str) -> float:
        """Returns the default for a backbone: that of the nearest width, and less beyond the widest.

        The best rate falls with the width (arXiv 2203.03466).

        Args:
            width: the size of the backbone's states.
            method: one of `predgen.names.METHODS`.
        """
        nearest = min(self.learning_rates, key=lambda tuned: abs(math.log(tuned / width)))
        found = self.learning_rates[nearest]
        rate = found if isinstance(found, float) else found[method]
        return rate * min(1.0, max(self.learning_rates) / width)

    @property
    def is_low_rank(self) -> bool:
        """Whether the update is a product of two thin matrices."""
        return self.rank_setting == "lora_rank"


@dataclass(frozen=True)
class DirectorForm:
    """What the Director of predgen is.

    Attributes:
        description: as in `Entry`.
        path: of the class of the method.
        scores_all: whether it reads the states of all targets, which are scored in one write.
    """

    description: str
    path: str
    scores_all: bool = True


@dataclass(frozen=True)
class Join:
    """How the Writer's loss L_W and the Director's loss L_D become one.

    Attributes:
        description: as in `Entry`.
        path: of a function of L_W and L_D, or of a module with weights of its own.
        is_linear: whether it is a sum of the two with weights that do not depend on them: it commutes with averaging.
        takes: which arguments of `predgen.methods.losses.join_of` it takes, by name.
    """

    description: str
    path: str
    is_linear: bool = False
    takes: tuple[str, ...] = ()


@dataclass(frozen=True)
class WriterLoss:
    """What the Writer's loss L_W is.

    Attributes:
        description: as in `Entry`.
        path: of a function with the arguments of `predgen.methods.losses.TokenLoss.__call__`.
        takes: which attributes of a `TokenLoss` it takes, by name.
        for_numbers: whether it knows only numbers.
        scores_all: whether it is no loss of tokens, and reads the score of every number that can be written.
    """

    description: str
    path: str
    takes: tuple[str, ...] = ()
    for_numbers: bool = True
    scores_all: bool = False


@dataclass(frozen=True)
class NumberLoss:
    """What the heads of numbers learn.

    Attributes:
        description: as in `Entry`.
        path: of a function of outputs and standardized numbers.
        num_outputs: how many outputs a head has; their mean is its answer.
    """

    description: str
    path: str
    num_outputs: int = 1


@dataclass(frozen=True)
class BaselineChoice:
    """What the methods of a comparison stand beside.

    Attributes:
        description: as in `Entry`.
        path: of a function of `predgen.experiments.baseline_rows.Given`.
        is_default: whether it is in a comparison that names no baselines.
    """

    description: str
    path: str
    is_default: bool = True


@dataclass(frozen=True)
class Schedule:
    """The probability of feeding the model its own token, over training.

    Attributes:
        description: as in `Entry`.
        path: of a function of a `predgen.training.schedules.Moment`.
        follows_accuracy: whether it reads the Writer's accuracy, which is measured then.
    """

    description: str
    path: str
    follows_accuracy: bool = False
