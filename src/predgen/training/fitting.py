"""The fit run: settings and a table in, a fitted model and its training record out."""

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from predgen.adapters import choose_by_magnitude
from predgen.adapters.adalora import ranks_of, tuner_of
from predgen.backbones import Source, default_template, find_source, is_builtin
from predgen.codec.codec import Codec
from predgen.config import RunConfig, TrainSettings
from predgen.measures.metrics import check_metric, higher_is_better
from predgen.methods import Method, PredGen
from predgen.methods.buckets import lacks_memory
from predgen.methods.heads import scale_of, truth_of
from predgen.models.artifact import check_output
from predgen.models.building import build_method, load_base
from predgen.models.contents import Contents
from predgen.models.encoding import encode_prompts
from predgen.models.model import Model
from predgen.processes import from_first, is_first, join_processes, wait_for_all
from predgen.tables.reading import TableLike
from predgen.tables.template import Template
from predgen.targets.record import field_values, fields_of
from predgen.training.arguments import runs_on_cpu, training_arguments
from predgen.training.batches import Collator, Examples
from predgen.training.checkpoints import CHECKPOINTS, checkpoints_in, is_whole, newest_whole
from predgen.training.memory import BATCH_SETTINGS, after_lack_of_memory, batches_in
from predgen.training.preparing import Prepared, prepare, settings_of
from predgen.training.progress import TrainingProgress
from predgen.training.runs import begin, check_rows, check_settings, unfinished_folder
from predgen.training.trainer import PredGenTrainer
from predgen.training.validating import fitted_mixes, limits_of, tune_thresholds, validator_of

log = logging.getLogger("predgen")

# Training prompts that RoCoFT's magnitudes are measured on.
SCORED_PROMPTS = 16
FOR_REAL_WORK = "Qwen/Qwen3-0.6B"


def fit(
    data: TableLike | None = None,
    target: str | Sequence[str] | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Model:
    """Returns a model fitted to a table's column.

    While it runs, checkpoints stand in `<out>.unfinished`; `out` appears when all is done.

    Args:
        data: a table, a path, a folder of splits, or a hub id. With the setting `task`: the folder of the task's rows,
            or such rows; None to look below PREDGEN_DATA_DIR, then on the hub.
        target: the column to predict, or several as one record; the task's if None.
        out: the artifact's directory; None keeps the model in memory.
        overwrite: replace an artifact, or an unfinished run, that is there.
        resume: go on with the unfinished run of `out`.
        quiet: show no progress.
        settings: any setting of `predgen.config`.

    Raises:
        PredGenError: the table, the settings, the backbone or the output is not right.
        TrainingError: the loss is not finite; the last checkpoint is kept.
    """
    config = settings_of(data, target, settings)
    if not quiet:
        warn_if_for_trying(config.model.backbone)
    join_processes(on_cpu=runs_on_cpu(config.train))
    if out is None:
        return fit_prepared(config, prepared_for(config, data), quiet=quiet)
    folder = unfinished_folder(out)
    check_output(Path(out), overwrite=overwrite)
    check_settings(folder, config, overwrite=overwrite, resume=resume)
    prepared = prepared_for(config, data)
    if resume:
        check_rows(folder, prepared.fingerprint())
    wait_for_all()  # no process may write before all have looked at what is there
    try:
        if not resume and is_first():
            begin(folder, config, prepared.fingerprint())
        wait_for_all()
        model = fit_prepared(config, prepared, folder, resume=resume, quiet=quiet)
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


def source_of(config: RunConfig) -> Source:
    """Returns where the files of the run's backbone are."""
    model = config.model
    return find_source(model.backbone, model.revision, trust_remote_code=model.trust_remote_code)


def prepared_for(config: RunConfig, data: TableLike | None) -> Prepared:
    """Returns a table made ready for the run's backbone, which has its own way to read several texts."""

    def template(inputs: Sequence[str], target: str) -> Template:
        return default_template(source_of(config), inputs, target)

    return prepare(config.data, data, config.train.seed, default_template=template)


def warn_if_for_trying(backbone: str) -> None:
    """Says of a model that comes with the package that it is for trying, and what to use for real work."""
    if is_builtin(backbone):
        log.warning(
            "The backbone %s is a small model for trying things out. For real work name a pretrained one, such as "
            "--backbone %s, or a local folder.",
            backbone,
            FOR_REAL_WORK,
        )


def fit_prepared(
    config: RunConfig, prepared: Prepared, run_folder: Path | None = None, *, resume: bool = False, quiet: bool = False
) -> Model:
    """Returns a model fitted to a prepared table.

    Args:
        config: the run's settings.
        prepared: the table, shared by all methods of a comparison.
        run_folder: where checkpoints go; None for a temporary folder.
        resume: go on from the last whole checkpoint there.
        quiet: show no progress.
    """
    metric = config.train.metric or prepared.target.default_metric
    check_metric(prepared.target, metric)
    source = source_of(config)
    # Which rows the model saw: a table, its split and its order can be told from others by these.
    seen = {"split_seed": prepared.split_seed, "rows_sha256": prepared.fingerprint()}
    contents = Contents(config, prepared.template, source.name, source.revision, source.content_hash(), seen)
    with nullcontext(run_folder) if run_folder else tempfile.TemporaryDirectory(prefix="predgen-") as name:
        folder = from_first(Path(name))
        settings = batches_in(folder, config.train) if resume else config.train
        while True:
            method = new_method(config, prepared, source)
            try:
                record = train(settings, method, contents, prepared, metric, folder, resume=resume, quiet=quiet)
                break
            except RuntimeError as error:
                if not lacks_memory(error):
                    raise
            del method  # outside the handler, which keeps alive what the failed step held
            settings = after_lack_of_memory(folder, settings)
        wait_for_all()  # the folder goes when the first process leaves it
    limits = limits_of(settings, method)
    if isinstance(method, PredGen) and config.model.predict_from == "stack":
        method.mixes = fitted_mixes(method, contents, prepared, limits)
    tune_thresholds(method, contents, prepared, limits)
    contents.record.update(record)
    model = Model(method.eval(), contents)
    if prepared.splits.calibration is not None:
        model.calibrate(prepared.splits.calibration)
    return model


def new_method(config: RunConfig, prepared: Prepared, source: Source) -> Method:
    """Returns the method before training, its heads drawn from the seed."""
    backbone = load_base(config, source)
    codec = Codec(prepared.target, backbone)
    scales = [
        scale_of(
            field, field_values(prepared.target, prepared.train_values, name), standardize=config.train.standardize
        )
        for name, field in fields_of(prepared.target).items()
    ]
    return build_method(config, backbone, codec, scales)


def train(
    settings: TrainSettings,
    method: Method,
    contents: Contents,
    prepared: Prepared,
    metric: str,
    folder: Path,
    *,
    resume: bool,
    quiet: bool,
) -> dict[str, Any]:
    """Trains a method in place, leaves it with the weights of the best validation, and returns the training record."""
    if settings.gradient_checkpointing:
        method.backbone.checkpoint_activations()
    prompts, num_cut = encode_prompts(method, contents, prepared.splits.train)
    if num_cut:
        log.warning("%d of %d training prompts were cut inside their longest field.", num_cut, len(prompts))
    scales = [one.scale for one in method.fields]
    truth = truth_of(method.target, prepared.train_values, scales)
    examples = Examples(prompts, prepared.train_values, truth)
    folder = folder / CHECKPOINTS
    arguments = training_arguments(
        settings,
        folder,
        num_rows=len(examples),
        peft=contents.config.model.peft,
        hidden_size=method.backbone.hidden_size,
        metric=metric,
        higher=higher_is_better(metric),
    )
    if contents.config.model.peft == "rocoft" and contents.config.model.rocoft_selection == "magnitude":
        method.to(arguments.device)  # where it is trained, and the pass is fast
        choose_by_magnitude(method.backbone, prompts[:SCORED_PROMPTS], writes=method.writes)
    collator = Collator(examples, method.backbone, method.codec)
    trainer = PredGenTrainer(
        method, arguments, settings, collator, validator_of(method, contents, prepared, metric, settings)
    )
    progress = TrainingProgress(metric)
    if not quiet:
        trainer.add_callback(progress)
    start = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=_checkpoint_of(folder) if resume else None)
    finally:
        if progress.progress is not None:
            progress.progress.stop()  # or an interrupted run leaves the terminal without its cursor
    tuner = tuner_of(method.backbone.model)
    return {
        "train_rows": len(examples),
        "validation_rows": len(prepared.splits.validation),
        "cut_prompts": num_cut,
        "learning_rate": arguments.learning_rate,
        **{name: getattr(settings, name) for name in BATCH_SETTINGS},
        "trainable_parameters": sum(one.numel() for one in method.parameters() if one.requires_grad),
        "metric": metric,
        "train_seconds": time.perf_counter() - start,
        "resumed": resume,
        **({} if tuner is None else {"ranks": ranks_of(tuner)}),
        **_course(trainer),
    }


def _checkpoint_of(folder: Path) -> str | None:
    """Returns the checkpoint that every process goes on from, found by the first."""
    found = newest_whole(folder) if is_first() else None
    return from_first(None if found is None else str(found))


def _course(trainer: PredGenTrainer) -> dict[str, Any]:
    """Returns how training went, step by step, as values that JSON can hold."""
    state = trainer.state
    return {
        "steps": state.global_step,
        "max_steps": state.max_steps,
        "best_step": state.best_global_step,
        "best_metric": _finite(state.best_metric),
        "history": [{name: _finite(value) for name, value in one.items()} for one in state.log_history],
    }


def _finite(value: Any) -> Any:
    """Returns a value that JSON can hold."""
    return None if isinstance(value, float) and not np.isfinite(value) else value
