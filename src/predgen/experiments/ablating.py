"""One part of the method switched at a time, on the same rows and seeds, each against the whole."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from predgen.config import ModelSettings, RunConfig, TrainSettings
from predgen.errors import ConfigError, unknown_name
from predgen.experiments.comparing import Bench
from predgen.experiments.results import Comparison
from predgen.files import alone_at
from predgen.models.building import check_method
from predgen.models.forms import with_form
from predgen.names import JOINS, METHODS, READINGS, SAMPLING_CHOICES, SAMPLING_UNITS, SCHEDULES, WRITER_LOSSES
from predgen.tables.reading import TableLike
from predgen.training.preparing import run_of
from predgen.training.training_run import settled
from predgen.warning_kinds import each_once

log = logging.getLogger("predgen")

BASE = "base"


def _others(choices: Iterable[str], default: str) -> list[str]:
    """Returns the names of a table but the default's, which the base has unless it is set otherwise."""
    return [name for name in choices if name != default]


# Each part, and what it can be switched to; what equals the base's own setting is left out.
PARTS: dict[str, dict[str, dict[str, Any]]] = {
    "loss": {f"loss={name}": {"train.loss": name} for name in JOINS},
    "schedule": {
        "no sampling": {"train.schedule": "constant", "train.sampling_end": 0.0},
        **{f"schedule={name}": {"train.schedule": name} for name in SCHEDULES},
        "linear to 0.5": {"train.schedule": "linear", "train.sampling_end": 0.5},
        "linear over the run": {
            "train.schedule": "linear",
            "train.sampling_fraction": 1.0,
            "train.sampling_steps": None,
        },
    },
    "director_share": {f"director_share={share:g}": {"train.director_share": share} for share in (0.0, 0.5, 1.0)},
    "passes": {
        **{f"passes={number}": {"train.sampling": "parallel", "train.passes": number} for number in (1, 2, 4)},
        "sequential": {"train.sampling": "sequential"},
    },
    "director": {f"director={name}": {"model.director": name} for name in READINGS},
    "standardization": {"not standardized": {"train.standardize": False}},
    "method": {name: {"model.method": name} for name in _others(METHODS, ModelSettings().method)},
    "sampling": {
        **{
            f"choice={name}": {"train.sampling_choice": name}
            for name in _others(SAMPLING_CHOICES, TrainSettings().sampling_choice)
        },
        **{
            f"unit={name}": {"train.sampling_unit": name}
            for name in _others(SAMPLING_UNITS, TrainSettings().sampling_unit)
        },
    },
    "writer_loss": {
        f"writer_loss={name}": {"train.writer_loss": name}
        for name in _others(WRITER_LOSSES, TrainSettings().writer_loss)
    },
}
FOR_NUMBERS = ("writer_loss", "standardization")


@each_once()
def ablate(
    data: TableLike | None = None,
    target: str | Sequence[str] | None = None,
    *,
    config: RunConfig | None = None,
    parts: Sequence[str] | None = None,
    seeds: int = 1,
    runs: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Comparison:
    """Returns how `predgen` does as it is set (`base`), and with one part at a time switched to something else.

    Every variant is tested against the base, over the same rows, with p-values corrected for the number of variants.

    Args:
        data: as `fit` takes it.
        target: as `fit` takes it.
        config: as `fit` takes it.
        parts: which parts to switch, some of `PARTS`; all that apply to the target if not given.
        seeds: how many training seeds, counted from the setting `seed`.
        runs: a folder that keeps what is finished, so that an interrupted ablation can go on.
        resume: go on with the ablation of `runs`.
        overwrite: begin anew what is in `runs`.
        quiet: show no progress.
        settings: any setting of `predgen.config`; they make the base.

    Raises:
        UnknownNameError: there is no such part.
        PredGenError: as `fit`.
    """
    for part_name in parts or ():
        if part_name not in PARTS:
            raise unknown_name("part", part_name, PARTS)
    if seeds < 1:
        raise ConfigError(f"Expected at least one seed, found {seeds}.")
    config, data = run_of(data, target, settings, config)
    config = settled(config)
    if config.model.method != "predgen":
        raise ConfigError(
            f"Expected the method predgen, whose parts are switched, found {config.model.method}. Leave method out."
        )
    if config.model.director_form is None:  # whose parts these are
        config = config.changed(**{"model.director_form": "states"})
    with alone_at(None if runs is None else Path(runs)):
        bench = Bench.open(config, data, runs=runs, resume=resume, overwrite=overwrite, quiet=quiet)
        config = with_form(config, bench.prepared.target)
        numbers = bench.prepared.target.numeric
        wanted = parts or [part_name for part_name in PARTS if numbers or part_name not in FOR_NUMBERS]
        check_method(config, bench.prepared.target)
        variants: dict[str, RunConfig] = {}
        for part_name in wanted:
            for name, changes in PARTS[part_name].items():
                variant = config.changed(**changes)
                if variant == config:
                    continue
                try:
                    check_method(variant, bench.prepared.target)
                except ConfigError as error:
                    log.warning("Left out '%s': %s", name, error)
                else:
                    variants[name] = variant
        results = {BASE: bench.result(BASE, config, seeds)}
        results |= {name: bench.result(name, variant, seeds) for name, variant in variants.items()}
        return Comparison(results, bench.part, config, against=BASE)
