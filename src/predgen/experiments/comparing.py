"""Several methods on the same rows, seeds, budget and backbone, with the baselines in the same table."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from predgen.config import ModelSettings, RunConfig
from predgen.errors import ConfigError
from predgen.experiments.baseline_rows import Given, baseline_results
from predgen.experiments.results import Comparison, MethodResult
from predgen.experiments.tuning import require_tuner, tune
from predgen.files import alone_at
from predgen.measures.metrics import check_metric
from predgen.models.artifact import check_output
from predgen.models.building import check_method
from predgen.models.description import DESCRIPTION_FILE
from predgen.models.evaluating import timed_answers
from predgen.models.model import Model
from predgen.models.scored import score, scored_from_json
from predgen.names import BASELINES, DEFAULT_BASELINES, METHODS
from predgen.tables.reading import TableLike
from predgen.tables.values import values_of, warn_of_unseen
from predgen.training.fitting import fit_prepared, prepared_for, say_backbone
from predgen.training.preparing import Prepared, run_of
from predgen.training.runs import Finished, begin, check_rows, check_settings
from predgen.training.training_run import settled
from predgen.warning_kinds import NoTestPartWarning, each_once, warn

log = logging.getLogger("predgen")


@each_once()
def compare(
    data: TableLike | None = None,
    target: str | Sequence[str] | None = None,
    *,
    config: RunConfig | None = None,
    methods: Sequence[str] = tuple(METHODS),
    baselines: Sequence[str] = DEFAULT_BASELINES,
    seeds: int = 1,
    trials: int = 0,
    runs: str | Path | None = None,
    models: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Comparison:
    """Returns how the methods do on the same test rows, beside the baselines.

    All methods share the split, the prompts, the budget and the settings; the split is drawn from the first seed.

    Args:
        data: as `fit` takes it.
        target: as `fit` takes it.
        config: as `fit` takes it; its method is left at the default.
        methods: some of predictor, generator, predgen.
        baselines: some of mean_or_majority, tfidf_linear, zero_shot, zero_shot_calibrated, or none. One that does not
            apply to the target or the backbone is left out with a warning that says why.
        seeds: how many training seeds, counted from the setting `seed`.
        trials: how many settings each method is tried with on the validation part, the defaults being the first.
        runs: a folder that keeps what is finished, so that an interrupted comparison can go on.
        models: a folder that keeps each fitted model, as an artifact `<method>-seed<seed>`, or
            `<method>-of<trials>-seed<seed>` of a tuned one.
        resume: go on with the comparison of `runs`.
        overwrite: begin anew what is in `runs`, and replace what is in `models`.
        quiet: show no progress.
        settings: any setting of `predgen.config` but `method`; `methods` says which methods are fitted.

    Raises:
        UnknownNameError: the name of a method or a baseline is not known.
        PredGenError: as `fit`.
    """
    _check(methods, baselines, seeds, trials)
    if trials:
        require_tuner()
    named = config is not None and config.model.method != ModelSettings().method
    if named or {"method", "model.method"} & set(settings):
        raise ConfigError("Expected no setting 'method', as compare fits several. Name them with `methods`.")
    config, data = run_of(data, target, settings, config)
    config = settled(config)
    # The number of trials is in the name: a model that was tuned with another number of trials must not be taken.
    names = {name: f"{name}-of{trials}" if trials else name for name in methods}
    if models is not None:
        every = [run_name(name, config.train.seed + number) for name in names.values() for number in range(seeds)]
        finished = Finished(Path(runs) if resume and runs is not None else None)
        check_models(Path(models), every, finished, replaces=overwrite or resume)
    with alone_at(None if runs is None else Path(runs)):
        bench = Bench.open(config, data, runs=runs, models=models, resume=resume, overwrite=overwrite, quiet=quiet)
        for name in methods:  # before anything is trained
            check_method(config.changed(**{"model.method": name}), bench.prepared.target)
        results = bench.baselines(baselines, config)
        tuned: dict[str, dict[str, Any]] = {}
        for name in methods:
            chosen = config.changed(**{"model.method": name})
            if trials:
                tuned[name] = tune(chosen, bench.prepared, name, trials, bench.finished, quiet=quiet)
                chosen = chosen.changed(**tuned[name])
            results[name] = bench.result(names[name], chosen, seeds)
        return Comparison(results, bench.part, config, tuned=tuned)


@dataclass(frozen=True)
class Bench:
    """One table on which several settings are measured alike.

    Attributes:
        prepared: the table, ready for any method.
        table: the rows that figures are of.
        part: which part they are: `test`, or `validation` where there is no test part.
        truth: their values.
        seed: the first training seed.
        finished: the figures that are finished.
        quiet: show no progress.
        models: where each fitted model is kept as an artifact; None for nowhere.
    """

    prepared: Prepared
    table: Any
    part: str
    truth: list[Any]
    seed: int
    finished: Finished
    quiet: bool
    models: Path | None = None

    @classmethod
    def open(
        cls,
        config: RunConfig,
        data: TableLike | None,
        *,
        runs: str | Path | None,
        resume: bool,
        overwrite: bool,
        quiet: bool,
        models: str | Path | None = None,
        chooses: bool = False,
    ) -> "Bench":
        """Returns the bench for a table, new or gone on with.

        With `chooses` figures are of the validation part, whatever else there is.

        Raises:
            PredGenError: the table or the settings are not right, or `runs` holds something else.
        """
        if runs is None and (resume or (overwrite and models is None)):
            raise ConfigError("Expected a folder of runs to resume or to overwrite, found none. Name it with --runs.")
        folder = None if runs is None else Path(runs)
        if folder is not None:
            check_settings(folder, config, overwrite=overwrite, resume=resume)
        if not quiet:
            say_backbone(config.model.backbone)
        prepared = prepared_for(config, data)
        check_metric(prepared.target, config.train.metric or prepared.target.default_metric)
        bench = cls.of(prepared, seed=config.train.seed, finished=Finished(folder), quiet=quiet, chooses=chooses)
        if models is not None:
            bench = replace(bench, models=Path(models))
            Path(models).mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=models):  # a folder that takes nothing is better found now
                pass
        if folder is not None:
            if resume:
                check_rows(folder, prepared.fingerprint())
            else:
                begin(folder, config, prepared.fingerprint())
        return bench

    @classmethod
    def of(cls, prepared: Prepared, *, seed: int, finished: Finished, quiet: bool, chooses: bool = False) -> "Bench":
        """Returns the bench for a prepared table.

        Args:
            prepared: the table.
            seed: the first training seed.
            finished: the figures that are finished.
            quiet: show no progress.
            chooses: figures are of the validation part, to choose on.

        Raises:
            DataError: a test row's answer is missing, or is no value of the target.
        """
        table, part = None if chooses else prepared.splits.test, "test"
        if table is None:
            table, part = prepared.splits.validation, "validation"
        if part == "validation" and not chooses:
            warn(
                NoTestPartWarning(
                    f"There is no test part: the figures are of the {len(table)} validation rows, which also chose the "
                    "checkpoints. Give a test part (--test, --split)."
                )
            )
        truth = values_of(prepared.target, table, prepared.columns)
        if part == "test":
            warn_of_unseen(prepared.target, truth, table, prepared.columns)
        return cls(prepared, table, part, truth, seed, finished, quiet)

    def result(self, name: str, config: RunConfig, seeds: int) -> MethodResult:
        """Returns the result of some settings over training seeds, fitting what is not finished.

        Args:
            name: what the settings are called.
            config: the settings.
            seeds: how many seeds.
        """
        seed_figures = []
        for seed in range(self.seed, self.seed + seeds):
            seeded = config.changed(**{"train.seed": seed})
            seed_figures.append(self.figures(name, seeded))
        return MethodResult(
            [scored_from_json(self.prepared.target, self.truth, of_seed) for of_seed in seed_figures],
            float(np.mean([of_seed["train_seconds"] for of_seed in seed_figures])),
            float(np.median([of_seed["rows_per_second"] for of_seed in seed_figures])),
        )

    def figures(self, name: str, config: RunConfig) -> dict[str, Any]:
        """Returns the figures of one run, which is fitted unless it is finished.

        Args:
            name: what the settings are called.
            config: the settings.
        """
        return self.finished.figures(run_name(name, config.train.seed), self.fit(name, config))

    def fit(self, name: str, config: RunConfig) -> Callable[[Path | None], dict[str, Any]]:
        """Returns what fits some settings and tells their figures, as `Finished` calls it.

        Args:
            name: what the settings are called.
            config: the settings.
        """

        def figures(folder: Path | None) -> dict[str, Any]:
            log.info("Fitting %s, seed %d", name, config.train.seed)
            begun = time.perf_counter()
            model: Model = fit_prepared(config, self.prepared, folder, resume=folder is not None, quiet=self.quiet)
            if self.models is not None:  # before the figures are saved, which mark the run as finished
                model.save(self.models / run_name(name, config.train.seed), overwrite=True)
            answers, seconds = timed_answers(model, self.table)
            scored = score(self.prepared.target, self.truth, answers)
            return {
                **scored.to_json(),
                "train_seconds": model.record["train_seconds"],
                "rows_per_second": len(self.table) / seconds,
                "seconds": time.perf_counter() - begun,
                "validation": model.record["best_metric"],
                "settings": config.model_dump(mode="json"),
                "history": [_short(entry) for entry in model.record["history"]],
            }

        return figures

    def baselines(self, names: Sequence[str], config: RunConfig) -> dict[str, MethodResult]:
        """Returns the results of some baselines; one that does not apply is left out, and it is said why.

        Args:
            names: some of `predgen.names.BASELINES`.
            config: the settings that all methods share.
        """
        return baseline_results(Given(config, self.prepared, self.table, self.truth, self.finished), names)


def run_name(name: str, seed: int) -> str:
    """Returns what one run of some settings is called."""
    return f"{name}-seed{seed}"


def check_models(folder: Path, names: Sequence[str], finished: Finished, *, replaces: bool) -> None:
    """Refuses a folder of models where one is there already, or where one that is finished is missing.

    Args:
        folder: where the models go.
        names: what their runs are called.
        finished: the figures that are gone on with.
        replaces: whether models that are there may be replaced.

    Raises:
        OutputExistsError: something is where a model would go.
        ConfigError: a run is finished, and its model was not kept.
    """
    for name in names:
        path = folder / name
        if not finished.holds(name):
            check_output(path, overwrite=replaces, option="--models")
        elif not (path / DESCRIPTION_FILE).is_file():
            raise ConfigError(
                f"Expected the model of the finished run '{name}' at '{path}', found none. Use --overwrite to begin "
                "anew, or leave --models out."
            )


def _short(logged: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the log entry of a step, to six digits, without the clock."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in logged.items()
        if not name.endswith(("runtime", "per_second"))
    }


def _check(methods: Sequence[str], baselines: Sequence[str], seeds: int, trials: int) -> None:
    """Refuses unknown methods and baselines, those that are named twice, and no method at all."""
    if "auto" in methods:
        raise ConfigError(
            "Expected methods to compare, found 'auto', which fits each of them and keeps the best. Leave it out: "
            "compare fits each of them as well. Or use fit."
        )
    for name in methods:
        METHODS.check(name)
    for name in baselines:
        BASELINES.check(name)
    if len(set(baselines)) < len(baselines):
        raise ConfigError(f"Expected each baseline once, found {', '.join(baselines)}. Leave the double one out.")
    if seeds < 1 or not methods or len(set(methods)) < len(methods):
        raise ConfigError(
            f"Expected at least one seed, and each method once, found {seeds} and {', '.join(methods) or 'none'}."
        )
    if trials < 0:
        raise ConfigError(f"Expected no trials or some, found {trials}.")
