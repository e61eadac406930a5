"""`tune`: a search in trials for one's own model, by one process or several, that can be stopped and gone on with."""

import json
import logging
import math
import multiprocessing
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from predgen.config import RunConfig, command_of
from predgen.errors import ConfigError, TrainingError
from predgen.experiments.choosing import CAVEAT
from predgen.experiments.tuning import require_tuner
from predgen.files import alone_at, write_text
from predgen.measures.base import json_number
from predgen.measures.metrics import check_metric, higher_is_better
from predgen.models.artifact import check_output
from predgen.models.loading import load
from predgen.models.model import Model
from predgen.models.random_states import random_states_kept
from predgen.parallel.processes import num_processes
from predgen.tables.reading import TableLike
from predgen.training.fitting import prepared_for, say_backbone
from predgen.training.preparing import Prepared, run_of
from predgen.training.runs import begin, check_one_of, check_rows, check_settings, unfinished_folder
from predgen.training.training_run import settled
from predgen.warning_kinds import PredGenWarning, each_once

if TYPE_CHECKING:
    from predgen.experiments.search.trials import Search

log = logging.getLogger("predgen")

SPACE_FILE = "space.json"
MOST_PROCESSES = 256
# With fewer finished trials nothing is said of what mattered.
FEW_TRIALS = 6


@random_states_kept()
@each_once()
def tune(
    data: TableLike | None = None,
    target: str | Sequence[str] | None = None,
    *,
    config: RunConfig | None = None,
    trials: int = 20,
    search: Sequence[str] | Mapping[str, Any] | None = None,
    processes: int = 1,
    prune: bool = True,
    budget: float | None = None,
    out: str | Path | None = None,
    runs: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Model:
    """Returns the model of the best of some trials, each a fit with other settings.

    The best is that of the run's metric on the validation rows. What a trial tries is drawn by Optuna's tree-
    structured Parzen estimator (Bergstra et al. 2011); the first trial has the run's own settings. With one process
    the draws follow from the run's seed and the trials before. A trial ends early where a validation is worse than the
    median of the other trials at the same validation, after five trials. The model's record says under `search` what
    each trial tried and how it did.

    Args:
        data: as `fit` takes it.
        target: as `fit` takes it.
        config: as `fit` takes it.
        trials: how many trials, at least 1. With `resume` it may be more than before.
        search: names of settings to search, or a mapping from names to a range `(low, high)` or a list of choices. If
            not given the learning rates of backbone and heads, the rank and the epochs, as far as the method has them.
        processes: how many trials run at once, each in a process of its own.
        prune: end trials early that are behind.
        budget: seconds after which no further trial begins; at least one is finished. None for no limit.
        out: the artifact's directory; None keeps the model in memory.
        runs: a folder that keeps the trials. If not given they are in `<out>.unfinished` until `out` is there.
        overwrite: replace an artifact, or a search, that is there.
        resume: go on with the search.
        quiet: show no progress.
        settings: any setting of `predgen.config`; those that are searched get other values.

    Raises:
        PredGenError: as `fit`.
        ConfigError: what is to be searched cannot be, or another space was searched before.
        TrainingError: no trial ended with a finite figure.
        MissingPackageError: Optuna is not installed.
    """
    require_tuner()
    from predgen.experiments.search.space import DEFAULT_SEARCH, space_of

    if trials < 1 or not 1 <= processes <= MOST_PROCESSES:
        raise ConfigError(
            f"Expected at least one trial, and 1 to {MOST_PROCESSES} processes, found {trials} and {processes}."
        )
    if budget is not None and not (math.isfinite(budget) and budget > 0):
        raise ConfigError(f"Expected a budget above 0 seconds, found {budget}. Leave it out for no limit.")
    check_one_of(overwrite=overwrite, resume=resume)
    if num_processes() > 1:
        raise ConfigError("Expected one process to begin with, found several of a launcher. Use --processes.")
    if resume and out is None and runs is None:
        raise ConfigError("Expected --out or --runs, whose search is gone on with, found neither. Name one.")
    config, data = run_of(data, target, settings, config)
    config = settled(config)
    if config.model.method == "auto":
        raise ConfigError("Expected one method, or --search method, found auto. Name the methods to search among.")
    if out is not None:
        check_output(Path(out), overwrite=overwrite)
    space = space_of(config, DEFAULT_SEARCH if search is None else search)
    with _folder(out, runs) as (folder, is_kept):
        check_settings(folder, config, overwrite=overwrite, resume=resume)
        if not quiet:
            say_backbone(config.model.backbone)
        prepared = prepared_for(config, data)
        shared = _begun(folder, config, space, prepared, trials, prune=prune, resume=resume)
        stop = None if budget is None else time.monotonic() + budget
        _run_all(shared, prepared, data, processes, stop, quiet=quiet)
        model = _best(shared)
        if out is not None:
            model.save(out, overwrite=overwrite)
        if not is_kept:
            shutil.rmtree(folder)
        return model


@contextmanager
def _folder(out: str | Path | None, runs: str | Path | None) -> Iterator[tuple[Path, bool]]:
    """Gives the folder of a search, on which no other works, and whether it stays when all is done."""
    if runs is None and out is None:
        with TemporaryDirectory(prefix="predgen-") as name:
            yield Path(name) / "search", True  # it goes by itself
        return
    folder = unfinished_folder(out) if runs is None and out is not None else Path(str(runs))
    with alone_at(folder):
        yield folder, runs is not None


def _begun(
    folder: Path, config: RunConfig, space: Any, prepared: Prepared, trials: int, *, prune: bool, resume: bool
) -> "Search":
    """Returns the search, begun or gone on with.

    Raises:
        ConfigError: it is gone on with, and had other rows or searched something else.
    """
    from optuna.distributions import distribution_to_json

    from predgen.experiments.search.space import choices_that_go
    from predgen.experiments.search.trials import Search

    metric = config.train.metric or prepared.target.default_metric
    check_metric(prepared.target, metric)
    space = choices_that_go(config, space, prepared.target)
    written = json.dumps({key: json.loads(distribution_to_json(one)) for key, one in space.items()}, indent=2) + "\n"
    file = folder / SPACE_FILE
    if resume:
        check_rows(folder, prepared.fingerprint())
        if file.exists() and file.read_text(encoding="utf-8") != written:
            raise ConfigError(
                f"Expected the space that the search was begun with ({file}), found another. Search the same, or use "
                "--overwrite to start over."
            )
    else:
        begin(folder, config, prepared.fingerprint())
    write_text(file, written)
    return Search(folder, config, space, trials, metric, higher_is_better(metric), prune)


def _run_all(
    shared: "Search", prepared: Prepared, data: TableLike | None, processes: int, stop: float | None, *, quiet: bool
) -> None:
    """Runs the trials that are left, in this process and beside it."""
    from predgen.experiments.search.trials import begin_anew, counted, run_trials

    def goes_on() -> bool:
        is_over = stop is not None and time.monotonic() >= stop
        return not (is_over and any(trial.state.is_finished() for trial in counted(shared.study())))

    begin_anew(shared)
    context = multiprocessing.get_context("spawn")
    beside: list[BaseProcess] = [
        context.Process(target=_work, args=(shared, data, stop), daemon=True) for _ in range(processes - 1)
    ]
    try:
        for process in beside:
            process.start()
        run_trials(shared, prepared, goes_on=goes_on, quiet=quiet)
        for process in beside:
            process.join()
        if any(process.exitcode for process in beside):
            log.warning("A process of the search ended before its time. Its trial is begun anew.")
            begin_anew(shared)
            run_trials(shared, prepared, goes_on=goes_on, quiet=quiet)
    finally:
        for process in beside:
            if process.is_alive():
                process.terminate()
                process.join()


def _work(shared: "Search", data: TableLike | None, stop: float | None) -> None:
    """Runs trials beside the first process, in silence: what there is to say of the rows, that one says.

    Args:
        shared: the search.
        data: its table.
        stop: when no further trial begins, on the clock of `time.monotonic`, which processes share.
    """
    from predgen.experiments.search.trials import run_trials

    log.addHandler(logging.NullHandler())
    log.propagate = False
    warnings.simplefilter("ignore", PredGenWarning)
    first = multiprocessing.parent_process()

    def goes_on() -> bool:
        return (first is None or first.is_alive()) and (stop is None or time.monotonic() < stop)

    run_trials(shared, prepared_for(shared.config, data), goes_on=goes_on, quiet=True)


def _best(shared: "Search") -> Model:
    """Returns the best trial's model, whose record says how the others did.

    Raises:
        TrainingError: none ended with a finite figure.
    """
    from predgen.experiments.search.trials import best_model, counted

    study = shared.study()
    if not any(trial.value is not None and trial.state.name == "COMPLETE" for trial in study.trials):
        raise TrainingError(
            f"Expected a trial with a finite {shared.metric}, found none in {len(counted(study))}. See the warnings."
        )
    model = load(
        best_model(shared),
        device=shared.config.train.device,
        trust_remote_code=shared.config.model.trust_remote_code,
    )
    record = {**model.record, "search": _facts(shared, model.record["validation_rows"])}
    model.contents = replace(model.contents, record=record)
    return model


def _facts(shared: "Search", rows: int) -> dict[str, Any]:
    """Returns what was searched and found, as JSON holds it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from predgen.experiments.search.trials import REASON, SECONDS, counted

    study = shared.study()
    numbers = {trial.number: place for place, trial in enumerate(counted(study), 1)}
    searched: dict[str, Any] = {}
    for key, one in shared.space.items():
        if isinstance(one, CategoricalDistribution):
            searched[key] = {"choices": list(one.choices)}
        else:
            assert isinstance(one, FloatDistribution | IntDistribution)
            searched[key] = {"low": one.low, "high": one.high, "log": one.log}
    return {
        "metric": shared.metric,
        "higher_is_better": shared.higher,
        "rows": rows,
        "searched": searched,
        "trials": [
            {
                "number": numbers[trial.number],
                "state": {"COMPLETE": "finished", "PRUNED": "pruned"}.get(trial.state.name, "failed"),
                "value": _value(trial),
                "settings": dict(trial.params),
                "seconds": trial.user_attrs.get(SECONDS),
                "validations": [json_number(value) for _, value in sorted(trial.intermediate_values.items())],
                "reason": trial.user_attrs.get(REASON),
            }
            for trial in counted(study)
        ],
        "best": numbers[study.best_trial.number],
        "importance": _importance(study),
        "command": command_of(shared.config.changed(**study.best_trial.params)),
        "note": CAVEAT,
    }


def _value(trial: Any) -> float | None:
    """Returns a finished trial's figure; of a pruned one Optuna has the last validation's."""
    return json_number(trial.value) if trial.state.name == "COMPLETE" else None


def _importance(study: Any) -> dict[str, float]:
    """Returns how much of the figures' variance each setting explains over the space, by fANOVA (Hutter et al. 2014).

    Settings that some trials do not have are left out. Of few trials, or of trials that are all alike, there is nothing
    to say.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if len(finished) < FEW_TRIALS or len({trial.value for trial in finished}) < 2:
        return {}
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in found.items()}
