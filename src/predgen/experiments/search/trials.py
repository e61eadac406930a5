"""One process's share of a search: trials drawn, fitted, pruned, and the best model kept."""

import logging
import math
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from transformers import TrainerCallback, TrainerState

from predgen.config import RunConfig
from predgen.errors import ConfigError, DivergenceError
from predgen.experiments.search.space import Space, defaults_in, drawn
from predgen.experiments.tuning import seed_of, shown
from predgen.models.building import check_method
from predgen.training.fitting import fit_prepared
from predgen.training.preparing import Prepared

log = logging.getLogger("predgen")

JOURNAL = "journal.log"
BEST = "best"
TRIALS = "trials"
# Trials of a search that are not pruned, whatever they look like, as there is nothing to hold them against.
UNPRUNED = 5
# What a trial says of itself: the folder of its checkpoints, the seconds it took once it ended, why it failed.
FOLDER, SECONDS, REASON = "folder", "seconds", "reason"


@dataclass(frozen=True)
class Search:
    """What all processes of a search share.

    Attributes:
        folder: of its journal, its checkpoints and its best model.
        config: the settings that no trial changes.
        space: what is searched.
        trials: how many.
        metric: what the best is best in.
        higher: whether more of it is better.
        prunes: whether trials end early that are behind.
    """

    folder: Path
    config: RunConfig
    space: Space
    trials: int
    metric: str
    higher: bool
    prunes: bool

    def study(self) -> optuna.Study:
        """Returns the study in the search's journal, made now if there is none."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = str(self.folder / JOURNAL)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED) if self.prunes else optuna.pruners.NopPruner()
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path))),
            study_name="search",
            direction="maximize" if self.higher else "minimize",
            pruner=pruner,
            load_if_exists=True,
        )

    def lock(self, name: str) -> FileLock:
        """Returns the lock of a thing of the search; one that a process died with is free."""
        return FileLock(self.folder / f"{name}.lock")


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials of a study but those that a dead process had, which ended without their seconds."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state != TrialState.FAIL or SECONDS in trial.user_attrs]


def begin_anew(search: Search) -> None:
    """Puts the trials of processes that died in line again; those that still run are left alone."""
    study = search.study()
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        lock = search.lock(f"trial-{trial.number}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={FOLDER: folder_name(trial)})
        lock.release()


def run_trials(search: Search, prepared: Prepared, *, goes_on: Callable[[], bool], quiet: bool) -> None:
    """Runs trials until as many are there as the search has, or until it is not to go on.

    Args:
        search: what all processes share.
        prepared: the table.
        goes_on: asked before each trial.
        quiet: show no progress.
    """
    study = search.study()
    while goes_on():
        with search.lock("ask"):  # the next one is counted and drawn by one process at a time
            number = len(counted(study))
            if number >= search.trials and not _in_line(study):
                return
            trial, settings = _asked(search, study, number, prepared)
            held = search.lock(f"trial-{trial.number}")
            held.acquire()
        try:
            _run(search, study, trial, settings, prepared, quiet=quiet)
        finally:
            held.release()


def best_model(search: Search) -> Path:
    """Returns the artifact of the best trial so far."""
    return search.folder / f"{BEST}-{search.study().best_trial.number}"


def _in_line(study: optuna.Study) -> bool:
    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))


def _asked(search: Search, study: optuna.Study, number: int, prepared: Prepared) -> tuple[optuna.Trial, dict[str, Any]]:
    """Returns a new trial and what it tries; it follows from the run's seed, the number and the trials before."""
    if not number:
        study.enqueue_trial(defaults_in(search.space, search.config, prepared.target))
    seed = seed_of(search.config.train.seed, number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5, constant_liar=True)
    trial = study.ask()
    return trial, drawn(trial, search.space, search.config)


def _run(
    search: Search,
    study: optuna.Study,
    trial: optuna.Trial,
    settings: dict[str, Any],
    prepared: Prepared,
    *,
    quiet: bool,
) -> None:
    """Fits what a trial tries, and tells the study how it did; an interruption leaves its checkpoints.

    Args:
        search: what all processes share.
        study: in its journal.
        trial: what is told.
        settings: what it tries.
        prepared: the table.
        quiet: show no progress.
    """
    log.info("Trial %d of %d: %s", trial.number + 1, search.trials, shown(settings))
    folder = search.folder / TRIALS / folder_name(trial)
    begun = time.perf_counter()
    state, value = TrialState.COMPLETE, math.nan
    try:
        config = search.config.changed(**settings)
        check_method(config, prepared.target)
        callbacks = [_Pruning(study, trial, search.metric)] if search.prunes else []
        model = fit_prepared(config, prepared, folder, resume=True, quiet=quiet, callbacks=callbacks)
        found = model.record["best_metric"]
        value = math.nan if found is None else float(found)
        if not math.isfinite(value):
            raise DivergenceError(f"Expected a finite {search.metric}, found none.")
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (ConfigError, DivergenceError) as error:  # a full disk is no trial's fault
        log.warning("Trial %d failed: %s", trial.number + 1, error)
        trial.set_user_attr(REASON, str(error))
        state = TrialState.FAIL
    trial.set_user_attr(SECONDS, time.perf_counter() - begun)
    if state != TrialState.COMPLETE:
        study.tell(trial, state=state)
    else:
        with search.lock(BEST):  # no other process may be better in the meantime
            before = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            values = [one.value for one in before if one.value is not None]
            if not values or (value > max(values) if search.higher else value < min(values)):
                model.save(search.folder / f"{BEST}-{trial.number}", overwrite=True)
            study.tell(trial, value)
            _remove_others(search, study)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_others(search: Search, study: optuna.Study) -> None:
    """Removes the models that are not the best any more."""
    for folder in search.folder.glob(f"{BEST}-*"):
        if folder.name != f"{BEST}-{study.best_trial.number}":
            shutil.rmtree(folder)


class _Pruning(TrainerCallback):  # type: ignore[misc]
    """Ends a trial whose validations are worse than the median of the others' at the same validation."""

    def __init__(self, study: optuna.Study, trial: optuna.Trial, metric: str) -> None:
        self.study = study
        self.trial = trial
        self.metric = metric

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **given: Any) -> None:
        """Tells the study the figure of a validation.

        Raises:
            TrialPruned: it is behind.
        """
        value = given["metrics"].get(f"eval_{self.metric}")
        if value is None or not math.isfinite(value):
            return
        # The log has this validation, and those before an interruption too.
        step = sum(f"eval_{self.metric}" in entry for entry in state.log_history)
        self.trial.report(value, step)
        if state.global_step < state.max_steps and self.trial.should_prune():
            raise optuna.TrialPruned


def folder_name(trial: optuna.Trial | FrozenTrial) -> str:
    """Returns the name of a trial's folder: one that is begun anew finds its checkpoints in that of its first run."""
    return str(trial.user_attrs.get(FOLDER, trial.number))
