"""Equal numbers of tuning trials for every method, chosen on the validation part alone."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from predgen.adapters import TUNED_HEAD_LEARNING_RATE
from predgen.backbones import width_of
from predgen.config import RunConfig
from predgen.errors import DivergenceError, TrainingError, require
from predgen.measures.metrics import higher_is_better
from predgen.names import METHODS, PEFT_METHODS
from predgen.training.fitting import fit_prepared
from predgen.training.preparing import Prepared
from predgen.training.runs import Finished
from predgen.training.training_run import source_of

log = logging.getLogger("predgen")

# Learning rates are searched from the default divided by this to the default times this, on a logarithmic scale.
SPAN = 5.0


def require_tuner() -> None:
    """Refuses trials where Optuna is missing.

    Raises:
        MissingPackageError: with the line that installs it.
    """
    require("optuna", extra="tune", what="a search in trials (--trials)")


def tune(
    config: RunConfig, prepared: Prepared, name: str, trials: int, finished: Finished, *, quiet: bool
) -> dict[str, Any]:
    """Returns the settings of the best trial on the validation part, by the metric that chooses checkpoints.

    Searched are the learning rates of the backbone and of the heads, by Optuna's tree-structured Parzen estimator
    (Bergstra et al. 2011). The first trial has the defaults. What a trial tries follows from the run's seed and the
    trials before it, so that an interrupted search goes on to the same end.

    Args:
        config: the method's settings.
        prepared: the table.
        name: what the method is called in the files of finished figures.
        trials: how many.
        finished: the figures that are finished.
        quiet: show no progress.

    Raises:
        TrainingError: no trial ended with finite figures.
        MissingPackageError: Optuna is not installed.
    """
    require_tuner()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    metric = config.train.metric or prepared.target.default_metric
    higher = higher_is_better(metric)
    defaults = own_rates(config)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        key: optuna.distributions.FloatDistribution(value / SPAN, value * SPAN, log=True)
        for key, value in defaults.items()
    }
    study = optuna.create_study(direction="maximize" if higher else "minimize")
    study.enqueue_trial(defaults)
    for number in range(trials):
        study.sampler = optuna.samplers.TPESampler(seed=seed_of(config.train.seed, name, number), n_startup_trials=5)
        trial = study.ask(space)
        tried = config.changed(**trial.params)

        def figures(folder: Path | None, tried: RunConfig = tried, trial: Any = trial) -> dict[str, Any]:
            log.info("Trial %d of %d of %s: %s", trial.number + 1, trials, name, shown(trial.params))
            try:
                model = fit_prepared(tried, prepared, folder, resume=folder is not None, quiet=quiet)
            except DivergenceError as error:  # a full disk is no trial's fault
                log.warning("The trial failed: %s", error)
                return {"settings": trial.params, metric: None}
            return {"settings": trial.params, metric: model.record["best_metric"]}

        value = finished.figures(f"{name}-trial{number}", figures)[metric]
        if value is None:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, value)
    if not any(finished_trial.value is not None for finished_trial in study.trials):
        raise TrainingError(
            f"Expected a trial of {name} with finite figures, found none in {trials}. See the warnings."
        )
    best = study.best_trial
    log.info("Best of %d trials of %s: %s %.4f with %s", trials, name, metric, best.value, shown(best.params))
    return dict(best.params)


def own_rates(config: RunConfig) -> dict[str, float]:
    """Returns the learning rates that a run has, the tuned ones where it names none; the generator has no heads.

    Args:
        config: its settings.
    """
    method = config.model.method
    rate = PEFT_METHODS[config.model.peft].learning_rate(width_of(source_of(config)), method)
    rates = {"train.learning_rate": config.train.learning_rate or rate}
    if METHODS[method].has_heads:
        rates["train.head_learning_rate"] = config.train.head_learning_rate or TUNED_HEAD_LEARNING_RATE
    return rates


def seed_of(*keys: Any) -> int:
    """Returns a seed that follows from some values alone, in every process."""
    return int.from_bytes(hashlib.sha256(repr(keys).encode()).digest()[:4], "big")


def shown(settings: Mapping[str, Any]) -> str:
    """Returns what a trial tries as a line has it."""
    return ", ".join(
        f"{key.rpartition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{key.rpartition('.')[2]} {value}"
        for key, value in settings.items()
    )
