"""`fit`: one method, or all of them on the same rows, of which the best on the validation part is kept."""

import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from predgen.config import RunConfig
from predgen.errors import ConfigError, DivergenceError, PredGenError
from predgen.experiments.comparing import Bench, check_models, run_name
from predgen.experiments.results import MethodResult
from predgen.files import alone_at, folder_appears_whole
from predgen.measures.base import json_number
from predgen.measures.metrics import higher_is_better
from predgen.measures.statistics import percentile_interval
from predgen.models.artifact import check_output
from predgen.models.building import check_method
from predgen.models.loading import load
from predgen.models.model import Model
from predgen.models.random_states import random_states_kept
from predgen.names import METHODS
from predgen.parallel.processes import num_processes
from predgen.tables.reading import TableLike
from predgen.training.checkpoints import CHECKPOINTS, checkpoints_in, is_whole
from predgen.training.fitting import fit_method
from predgen.training.preparing import run_of
from predgen.training.runs import UNFINISHED, Finished, unfinished_folder
from predgen.training.training_run import settled
from predgen.warning_kinds import each_once

if TYPE_CHECKING:
    from transformers import TrainerCallback

log = logging.getLogger("predgen")

# Where the candidates' models are, in the folder of the unfinished run.
MODELS = "models"
CAVEAT = (
    "The best was chosen on these rows, so that its figure on them is optimistic. Measure it on rows that nothing was "
    "chosen on."
)


@random_states_kept()
@each_once()
def fit(
    data: TableLike | None = None,
    target: str | Sequence[str] | None = None,
    *,
    config: RunConfig | None = None,
    out: str | Path | None = None,
    budget: float | None = None,
    models: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    quiet: bool = False,
    callbacks: Sequence["TrainerCallback"] = (),
    **settings: Any,
) -> Model:
    """Returns a model fitted to a table's column.

    While it runs, checkpoints stand in `<out>.unfinished`; `out` appears when all is done. With `method="auto"` the
    methods predictor, generator and predgen are fitted one after the other, on the same rows and with the same
    settings. The one that is best on the validation rows, by the run's metric, is returned. Its record says under
    `auto` how each of them did, and by how much the best is ahead of the second.

    Args:
        data: a table, a path, a folder of splits, or a hub id. With the setting `task`: the folder of the task's rows,
            or such rows; None to look below PREDGEN_DATA_DIR, then on the hub.
        target: the column to predict, or several as one record; the task's if None.
        config: all settings, instead of `target` and `settings`; its table is read if `data` is None.
        out: the artifact's directory; None keeps the model in memory.
        budget: seconds for the fits of method `auto`, above 0. The first method is always fitted; a further one is not
            begun if it would end later, should it take as long as the longest before it. None fits all.
        models: a folder that keeps the model of every method that `auto` fits, as an artifact `<method>-seed<seed>`.
        overwrite: replace an artifact, or an unfinished run, that is there.
        resume: go on with the unfinished run of `out`.
        quiet: show no progress.
        callbacks: what the Trainer calls besides, such as a `transformers.TrainerCallback` of yours; not with the
            method `auto`.
        settings: any setting of `predgen.config`.

    Raises:
        PredGenError: the table, the settings, the backbone or the output is not right.
        TrainingError: the loss is not finite; the last checkpoint is kept.
    """
    config, data = run_of(data, target, settings, config)
    if config.model.method != "auto":
        for name, given in (("budget", budget), ("models", models)):
            if given is not None:
                raise ConfigError(
                    f"Expected the method auto with --{name}, found {config.model.method}. Leave --{name} out, or use "
                    "--method auto."
                )
        return fit_method(config, data, out=out, overwrite=overwrite, resume=resume, quiet=quiet, callbacks=callbacks)
    if callbacks:
        raise ConfigError("Expected no callbacks with the method auto, found some. Fit one method with them.")
    if budget is not None and not (math.isfinite(budget) and budget > 0):
        raise ConfigError(f"Expected a budget above 0 seconds, found {budget}. Leave it out to fit all methods.")
    if num_processes() > 1:
        raise ConfigError(
            f"Expected one process with the method auto, found {num_processes()}. Fit each method by itself, or start "
            "one process."
        )
    config = settled(config)
    keep = None if models is None else Path(models)
    if out is not None:
        check_output(Path(out), overwrite=overwrite)
        with alone_at(unfinished_folder(out)):
            return _fit_best(config, data, Path(out), budget, keep, overwrite=overwrite, resume=resume, quiet=quiet)
    with TemporaryDirectory(prefix="predgen-") as folder:
        return _fit_best(
            config, data, Path(folder) / "model", budget, keep, overwrite=overwrite, resume=False, quiet=quiet
        )


@dataclass(frozen=True)
class Candidates:
    """The methods that were fitted, in their order.

    Attributes:
        results: the answers of each on the validation rows.
        seconds: what each took, from its first weight to its last answer.
        left_out: why each of the others was not fitted.
    """

    results: Mapping[str, MethodResult]
    seconds: Mapping[str, float]
    left_out: Mapping[str, str]


def candidates_of(bench: Bench, config: RunConfig, budget: float | None) -> Candidates:
    """Returns the methods that the budget has time for, fitted unless they are finished; says which are left out.

    Args:
        bench: where they are measured.
        config: the settings that they share.
        budget: seconds; None for as many as they take.

    Raises:
        ConfigError: none goes together with the settings.
        DivergenceError: none can be trained.
    """
    results: dict[str, MethodResult] = {}
    seconds: dict[str, float] = {}
    left_out: dict[str, str] = {}
    faults: list[PredGenError] = []
    for name in METHODS:
        chosen = config.changed(**{"model.method": name})
        if results and budget is not None and sum(seconds.values()) + max(seconds.values()) > budget:
            left_out[name] = (
                f"{sum(seconds.values()):.0f} s of the budget of {budget:g} s are over, and it would take about "
                f"{max(seconds.values()):.0f} s, as long as the longest before it."
            )
        else:
            begun = time.perf_counter()
            try:
                check_method(chosen, bench.prepared.target)
                results[name] = bench.result(name, chosen, seeds=1)
                seconds[name] = bench.figures(name, chosen)["seconds"]
            except (ConfigError, DivergenceError) as error:
                faults.append(error)
                left_out[name], seconds[name] = str(error), time.perf_counter() - begun
        if name in left_out:
            log.warning("Left out '%s': %s", name, left_out[name])
    if not results:
        raise faults[0]
    return Candidates(results, seconds, left_out)


def choice_of(candidates: Candidates, metric: str) -> dict[str, Any]:
    """Returns which candidate is the best, as JSON holds it: of equally good ones the first.

    The interval of the difference to the second is a paired bootstrap over the validation rows.

    Args:
        candidates: what was fitted.
        metric: what the best is best in.
    """
    results = candidates.results
    values = {name: result.metrics()[metric] for name, result in results.items()}
    sign = 1 if higher_is_better(metric) else -1
    worth = {name: sign * value if math.isfinite(value) else -math.inf for name, value in values.items()}
    best, *others = sorted(results, key=lambda name: worth[name], reverse=True)
    choice: dict[str, Any] = {
        "metric": metric,
        "rows": results[best].scored[0].num_rows,
        "candidates": {
            name: {
                "value": json_number(values[name]),
                "ci95": _interval_json(result.resampled[metric]),
                "seconds": candidates.seconds[name],
            }
            for name, result in results.items()
        },
        "left_out": dict(candidates.left_out),
        "best": best,
    }
    if others:
        second = others[0]
        choice |= {
            "second": second,
            "difference": json_number(values[best] - values[second]),
            "ci95": _interval_json(results[best].resampled[metric] - results[second].resampled[metric]),
            "note": CAVEAT,
        }
    return choice


def _interval_json(drawn: Any) -> list[float | None]:
    """Returns the 95 % interval of resampled values."""
    return [json_number(end) for end in percentile_interval(drawn)]


def _fit_best(
    config: RunConfig,
    data: TableLike | None,
    out: Path,
    budget: float | None,
    keep: Path | None,
    *,
    overwrite: bool,
    resume: bool,
    quiet: bool,
) -> Model:
    """Returns the best method's model, which `out` holds then; no other process works on the unfinished run.

    Args:
        config: the run's settings.
        data: its table.
        out: the artifact's directory.
        budget: seconds.
        keep: where every method's model is kept; None for nowhere.
        overwrite: replace what is there.
        resume: go on with the unfinished run.
        quiet: show no progress.
    """
    folder = unfinished_folder(out)
    check_output(out, overwrite=overwrite)
    if keep is not None and out.absolute() in (keep.absolute(), *keep.absolute().parents):
        raise ConfigError(f"Expected a folder of models outside of --out, found '{keep}'. Name another --models.")
    runs = {name: run_name(name, config.train.seed) for name in METHODS}
    if keep is not None:
        check_models(keep, list(runs.values()), Finished(None), replaces=overwrite or resume)
    bench = Bench.open(
        config, data, runs=folder, models=keep, resume=resume, overwrite=overwrite, quiet=quiet, chooses=True
    )
    bench = replace(bench, models=folder / MODELS)
    try:
        candidates = candidates_of(bench, config, budget)
        choice = choice_of(candidates, config.train.metric or bench.prepared.target.default_metric)
        model = load(
            folder / MODELS / runs[choice["best"]],
            device=config.train.device,
            trust_remote_code=config.model.trust_remote_code,
        )
        model.contents = replace(model.contents, record={**model.record, "auto": choice})
        if keep is not None:
            for name in candidates.results:
                with folder_appears_whole(keep / runs[name]) as copy:
                    shutil.copytree(folder / MODELS / runs[name], copy, dirs_exist_ok=True)
        model.save(out, overwrite=overwrite)
    except BaseException:
        if not _holds_work(folder):
            shutil.rmtree(folder, ignore_errors=True)  # there is nothing to go on with
        raise
    shutil.rmtree(folder)
    return model


def _holds_work(folder: Path) -> bool:
    """Returns whether a method is finished in the folder of a run, or has a checkpoint to go on from."""
    checkpoints = [
        one for unfinished in folder.glob(f"*{UNFINISHED}") for one in checkpoints_in(unfinished / CHECKPOINTS)
    ]
    return any(folder.glob("*.json")) or any(map(is_whole, checkpoints))
