"""The model card of an artifact: a README for people, with the header in YAML that the hub reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from predgen.backbones.packaged import PACKAGED_MODELS
from predgen.catalogue import load_task
from predgen.config import TASK_ROWS, RunConfig, command_of
from predgen.errors import PredGenError
from predgen.models.contents import Contents
from predgen.names import METHODS, PEFT_METHODS
from predgen.tables.files import table_suffix
from predgen.targets.record import Target

CARD_FILE = "README.md"
# Stands for the model's name until it has one on the hub.
PLACE = "PATH"


def card_of(contents: Contents, target: Target, evaluation: Mapping[str, Any] | None = None) -> str:
    """Returns a model card as Markdown.

    Args:
        contents: the settings, the record and the calibrations of the artifact.
        target: what it predicts.
        evaluation: the JSON of an `Evaluation` of held-out rows, with its `part` beside it; without one the card has
            the validation figure of the record.
    """
    columns = contents.config.data.target
    named = ", ".join([columns] if isinstance(columns, str) else columns)
    inputs = ", ".join(contents.template.fields)
    row = ", ".join(f'"{field}": "…"' for field in contents.template.fields)
    model = contents.config.model
    sections = {
        f"{named} from {inputs}": [
            f"A model of PredGen that predicts {named}: {target.describe()}.",
            f'```python\nimport predgen\n\nmodel = predgen.load("{PLACE}")\nmodel.predict([{{{row}}}])\n```',
        ],
        "Figures": [_figures(contents, evaluation)],
        "Calibration": [_calibration(contents, evaluation)],
        "Intended use": [
            f"It answers rows that are like those of its training: {inputs} in, {named} out. Measure it on rows of "
            "your own before you rely on it (`predgen evaluate`).",
        ],
        "Limits": [
            "It answers any text, also one about something else, and never says that it does not know. Its errors "
            "follow those of the answers that it was trained on: look at them by group (`predgen report`) before "
            "people are judged by them.",
            f"The license of the base model applies: {_license(contents)[1]}",
        ],
        "How it was made": [
            f"The method {model.method} ({METHODS[model.method].description}) over {_base(contents)[1]}; trained: "
            f"{PEFT_METHODS[model.peft].title}; {contents.record.get('train_rows', '?')} rows of {_data(contents)}.",
            f"```bash\n{command_of(_without_places(contents.config))}\n```",
        ],
    }
    body = "\n\n".join(
        "\n\n".join([f"{'##' if number else '#'} {title}", *texts])
        for number, (title, texts) in enumerate(sections.items())
    )
    return f"---\n{_header(contents, target, named, evaluation).to_yaml().strip()}\n---\n\n{body}\n"


def for_repository(card: str, repository: str) -> str:
    """Returns a card that loads the model by its name on the hub.

    Args:
        card: as `card_of` made it; what people wrote into it stays.
        repository: the hub's name of the model.
    """
    return card.replace(f'predgen.load("{PLACE}")', f'predgen.load("{repository}")')


def _header(contents: Contents, target: Target, named: str, evaluation: Mapping[str, Any] | None) -> ModelCardData:
    """Returns what the hub reads; the figures in its `model-index` form."""
    numeric = all(field.numeric for field in target.fields.values())
    base, license_name = _base(contents)[0], _license(contents)[0]
    part, metrics = _metrics(contents, evaluation)
    dataset = _dataset(contents)
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=dataset or _data(contents),
            dataset_name=_data(contents),
            dataset_split=part,
            metric_type=name,
            metric_name=name if interval is None else f"{name}, 95 % interval {interval[0]:.4g} to {interval[1]:.4g}",
            metric_value=round(value, 6),
        )
        for name, (value, interval) in metrics.items()
    ]
    return ModelCardData(
        base_model=base,
        license=license_name,
        datasets=None if dataset is None else [dataset],
        library_name="predgen",
        pipeline_tag="text-classification",
        tags=["predgen", contents.config.model.method, "regression" if numeric else "classification"],
        model_name=named,
        eval_results=results or None,
    )


def _metrics(
    contents: Contents, evaluation: Mapping[str, Any] | None
) -> tuple[str, dict[str, tuple[float, tuple[float, float] | None]]]:
    """Returns which rows the figures are of, and each figure with its 95 % interval, if it has one."""
    if evaluation is None:
        record = contents.record
        best = record.get("best_metric")
        return "validation", {} if best is None else {record["metric"]: (float(best), None)}
    intervals = {
        name: (float(low), float(high))
        for name, (low, high) in evaluation["ci95"].items()
        if low is not None and high is not None
    }
    found = {
        name: (float(value), intervals.get(name)) for name, value in evaluation["metrics"].items() if value is not None
    }
    return evaluation["part"], found


def _figures(contents: Contents, evaluation: Mapping[str, Any] | None) -> str:
    part, metrics = _metrics(contents, evaluation)
    rows = contents.record.get("validation_rows") if evaluation is None else evaluation["rows"]
    lines = [
        f"Of {rows} rows of the {part} part" + (", which also chose the checkpoint:" if evaluation is None else ":")
    ]
    lines += ["", "| metric | value | 95 % interval |", "| --- | --- | --- |"]
    for name, (value, interval) in metrics.items():
        ends = "" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
        lines.append(f"| {name} | {value:.4g} | {ends} |")
    if evaluation is None:
        lines += ["", "`predgen card PATH` puts the figures of held-out rows here."]
    return "\n".join(lines)


def _calibration(contents: Contents, evaluation: Mapping[str, Any] | None) -> str:
    if not contents.calibrations:
        return "It is not calibrated: it promises neither its probabilities nor intervals. See `predgen calibrate`."
    lines = [
        f"{f'{name}: ' if name else 'It is '}calibrated on {len(fitted.scores)} rows, "
        f"temperature {fitted.temperature:.3g}."
        for name, fitted in contents.calibrations.items()
    ]
    if evaluation is None or evaluation.get("level") is None:
        lines += ["How often intervals or label sets hold the answer: `predgen card --interval 0.9` puts it here."]
    else:
        lines += [
            f"Intervals or label sets of the level {evaluation['level']:g} held {value:.1%} of the answers."
            for name, value in evaluation["metrics"].items()
            if name.rpartition(".")[2] == "coverage"
        ]
    return " ".join(lines)


def _base(contents: Contents) -> tuple[str | None, str]:
    """Returns the hub's id of the base model, None if it has none that is known, and what people call it."""
    name = contents.base_name.partition("@")[0]
    if name in PACKAGED_MODELS:
        return PACKAGED_MODELS[name].hub, PACKAGED_MODELS[name].hub
    return (name, name) if is_hub_id(name) else (None, Path(name).name)


def _license(contents: Contents) -> tuple[str | None, str]:
    """Returns the hub's name of the base model's license, None if it is not known, and it in words."""
    packaged = PACKAGED_MODELS.get(contents.base_name.partition("@")[0])
    if packaged is None:
        return None, "look it up there."
    return packaged.license, packaged.terms


def _data(contents: Contents) -> str:
    """Returns what the data is called, without the place where it lay."""
    data = contents.config.data
    if data.data == TASK_ROWS or data.task is not None:
        return Path(str(data.task)).name
    return _dataset(contents) or Path(data.data).name


def _without_places(config: RunConfig) -> RunConfig:
    """Returns settings whose absolute paths are names alone: where things lay on this machine is nobody's business."""
    data, model = (
        {
            name: Path(value).name
            for name, value in settings
            if isinstance(value, str) and "\n" not in value and Path(value).expanduser().is_absolute()
        }
        for settings in (config.data, config.model)
    )
    return config.model_copy(
        update={"data": config.data.model_copy(update=data), "model": config.model.model_copy(update=model)}
    )


def _dataset(contents: Contents) -> str | None:
    """Returns the hub's id of the data, None if it has none that is known."""
    data = contents.config.data
    if data.task is not None:
        try:
            hub = load_task(data.task).hub
        except PredGenError:  # a file of another machine, or of another release
            return None
        return None if hub is None else hub.id
    return data.data if is_hub_id(data.data) and table_suffix(data.data) is None else None


def is_hub_id(name: str, *, anywhere: bool = False) -> bool:
    """Returns whether a name is an id of the hub with an owner, and neither a path nor a model of this package.

    Args:
        name: the name.
        anywhere: whatever paths there are here.
    """
    if name.count("/") != 1 or (not anywhere and Path(name).expanduser().exists()):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
