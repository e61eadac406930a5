"""PredGen: predict labels and numbers from text by letting a language model write the answer.

    import predgen

    model = predgen.fit("reviews.csv", target="stars", out="stars-model")
    model = predgen.load("stars-model")
    table = model.predict([{"review": "I would buy it again."}])

The names below are imported when they are first used, so that `import predgen` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from predgen.version import __version__

if TYPE_CHECKING:
    from predgen.catalogue import Task, load_task, tasks
    from predgen.errors import (
        ArtifactError,
        BackboneError,
        ConfigError,
        DataError,
        DivergenceError,
        MissingPackageError,
        OutputExistsError,
        PredGenError,
        TargetError,
        TemplateError,
        TrainingError,
        UnknownNameError,
    )
    from predgen.experiments.ablating import ablate
    from predgen.experiments.choosing import fit
    from predgen.experiments.comparing import compare
    from predgen.experiments.describing import describe
    from predgen.experiments.prediction_files import compare_files
    from predgen.experiments.reproduction import plan_reproduction, reproduce
    from predgen.experiments.results import Comparison
    from predgen.experiments.search.searching import tune
    from predgen.explaining.explaining import explain
    from predgen.explaining.explanation import Explanation
    from predgen.exporting.exporting import export_model
    from predgen.information.measuring import measure_information
    from predgen.information.tokens import token_information
    from predgen.inspecting.inspection import Inspection, inspect_backbone
    from predgen.models.loading import load
    from predgen.models.model import Model
    from predgen.models.pushing import Pushed, push
    from predgen.models.scored import Evaluation
    from predgen.targets.label import Label
    from predgen.targets.label_set import LabelSet
    from predgen.targets.number import Number
    from predgen.targets.ordinal import Ordinal
    from predgen.targets.record import Record
    from predgen.warning_kinds import (
        AttributionGapWarning,
        CalibrationEndWarning,
        CertainProbabilitiesWarning,
        CoarseDistributionWarning,
        ConstantInputWarning,
        ConstantTargetWarning,
        CutPromptsWarning,
        FarNumbersWarning,
        FewCalibrationRowsWarning,
        IdTargetWarning,
        InvalidAnswersWarning,
        LeakWarning,
        LostLabelsWarning,
        MissingLabelsWarning,
        NoTestPartWarning,
        OpenQuoteWarning,
        OtherPartsWarning,
        PredGenWarning,
        RareLabelsWarning,
        SharedRowsWarning,
        SimilarLabelsWarning,
        TakenNameWarning,
        UnmatchedRowsWarning,
        UnseenLabelsWarning,
        UntunedThresholdsWarning,
    )

__all__ = [
    "ArtifactError",
    "AttributionGapWarning",
    "BackboneError",
    "CalibrationEndWarning",
    "CertainProbabilitiesWarning",
    "CoarseDistributionWarning",
    "Comparison",
    "ConfigError",
    "ConstantInputWarning",
    "ConstantTargetWarning",
    "CutPromptsWarning",
    "DataError",
    "DivergenceError",
    "Evaluation",
    "Explanation",
    "FarNumbersWarning",
    "FewCalibrationRowsWarning",
    "IdTargetWarning",
    "Inspection",
    "InvalidAnswersWarning",
    "Label",
    "LabelSet",
    "LeakWarning",
    "LostLabelsWarning",
    "MissingLabelsWarning",
    "MissingPackageError",
    "Model",
    "NoTestPartWarning",
    "Number",
    "OpenQuoteWarning",
    "Ordinal",
    "OtherPartsWarning",
    "OutputExistsError",
    "PredGenError",
    "PredGenWarning",
    "Pushed",
    "RareLabelsWarning",
    "Record",
    "SharedRowsWarning",
    "SimilarLabelsWarning",
    "TakenNameWarning",
    "TargetError",
    "Task",
    "TemplateError",
    "TrainingError",
    "UnknownNameError",
    "UnmatchedRowsWarning",
    "UnseenLabelsWarning",
    "UntunedThresholdsWarning",
    "__version__",
    "ablate",
    "compare",
    "compare_files",
    "describe",
    "explain",
    "export_model",
    "fit",
    "inspect_backbone",
    "load",
    "load_task",
    "measure_information",
    "plan_reproduction",
    "push",
    "reproduce",
    "tasks",
    "token_information",
    "tune",
]

_HOMES = {
    "ablate": "experiments.ablating",
    "compare": "experiments.comparing",
    "compare_files": "experiments.prediction_files",
    "Comparison": "experiments.results",
    "describe": "experiments.describing",
    "explain": "explaining.explaining",
    "Explanation": "explaining.explanation",
    "export_model": "exporting.exporting",
    "fit": "experiments.choosing",
    "inspect_backbone": "inspecting.inspection",
    "Inspection": "inspecting.inspection",
    "load": "models.loading",
    "measure_information": "information.measuring",
    "token_information": "information.tokens",
    "load_task": "catalogue",
    "plan_reproduction": "experiments.reproduction",
    "reproduce": "experiments.reproduction",
    "Task": "catalogue",
    "tasks": "catalogue",
    "tune": "experiments.search.searching",
    "Model": "models.model",
    "push": "models.pushing",
    "Pushed": "models.pushing",
    "Evaluation": "models.scored",
    "Label": "targets.label",
    "LabelSet": "targets.label_set",
    "Number": "targets.number",
    "Ordinal": "targets.ordinal",
    "Record": "targets.record",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'predgen' has no attribute '{name}'")
    home = "warning_kinds" if name.endswith("Warning") else _HOMES.get(name, "errors")
    return getattr(import_module(f"predgen.{home}"), name)


def __dir__() -> list[str]:
    return __all__
