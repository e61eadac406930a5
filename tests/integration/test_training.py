"""Training: every overridden hook is called, a resumed run ends where the whole run ends, faults stop it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

import predgen
from predgen.config import TrainSettings
from predgen.methods import PredGen
from predgen.parallel import threads
from predgen.training import fitting
from predgen.training.checkpoints import checkpoints_in
from predgen.training.fitting import prepared_for
from predgen.training.memory import smaller_batches
from predgen.training.trainer import PredGenTrainer
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {
    "inputs": ["review"],
    "batch_size": 8,
    "epochs": 2,
    "learning_rate": 1e-3,
    "quiet": True,
    "device": "cpu",
}
HOOKS = [name for name in vars(PredGenTrainer) if name in dir(Trainer) and callable(vars(PredGenTrainer)[name])]


def test_every_overridden_hook_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[str] = set()

    def spy(name: str) -> None:
        original = getattr(PredGenTrainer, name)

        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(PredGenTrainer, name, wrapper)

    for name in HOOKS:
        spy(name)
    _stopped_run(tmp_path, monkeypatch, **SMALL | {"epochs": 3})
    predgen.fit(reviews(50), "stars", out=tmp_path / "parts", resume=True, **SMALL | {"epochs": 3})
    assert {"compute_loss", "evaluation_loop", "create_optimizer", "_save", "_load_best_model"} <= set(HOOKS)
    assert called == set(HOOKS)


def test_each_step_and_each_predicted_batch_looks_at_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(threads._follower, "follow", lambda: looks.append(1))
    model = predgen.fit(reviews(40), "mood", **SMALL | {"epochs": 1, "batch_size": 4})
    assert len(looks) >= 40 * 0.8 / 4
    looks.clear()
    model.predict(reviews(20))
    assert looks


def _stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Makes the run die like a killed process in the middle of the given step."""
    original = PredGenTrainer.compute_loss

    def dying(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step >= steps:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(PredGenTrainer, "compute_loss", dying)


@pytest.mark.parametrize(
    ("stop_at", "accumulation", "more"),
    [
        (7, 1, {}),
        pytest.param(
            *(10, 1, {"schedule": "adaptive", "sampling_choice": "softmax", "director_share": 0.5}),
            marks=pytest.mark.slow,
        ),
        pytest.param(7, 2, {"sampling_unit": "row", "loss": "uncertainty"}, marks=pytest.mark.slow),
    ],
    ids=["middle of an epoch", "after an epoch", "after a step of fewer batches"],
)
def test_a_resumed_run_ends_where_the_whole_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int, accumulation: int, more: dict[str, Any]
) -> None:
    table = reviews(90)  # 72 training rows: 9 batches an epoch
    settings = {**SMALL, "evals_per_epoch": 2, "sampling_start": 0.3, "sampling_end": 0.7}
    settings |= {"accumulation": accumulation, **more}
    predgen.fit(table, "stars", out=tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        _stop_after(patch, stop_at)
        with pytest.raises(KeyboardInterrupt):
            predgen.fit(table, "stars", out=tmp_path / "parts", **settings)
    assert not (tmp_path / "parts").exists()
    assert list((tmp_path / "parts.unfinished" / "checkpoints").glob("checkpoint-*"))
    predgen.fit(table, "stars", out=tmp_path / "parts", resume=True, **settings)

    whole, parts = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    records = [json.loads((tmp_path / name / "predgen.json").read_text())["record"] for name in ("whole", "parts")]
    assert records[0]["best_metric"] == records[1]["best_metric"]
    assert records[0]["best_step"] == records[1]["best_step"]
    # The best weights may be older than the interruption; the losses are not.
    losses = [[one["loss"] for one in record["history"] if "loss" in one] for record in records]
    assert losses[0] == losses[1]
    assert not (tmp_path / "parts.unfinished").exists()


@pytest.mark.parametrize(
    ("more", "steps"),
    [({"max_steps": 7}, 7), ({"epochs": 4, "evals_per_epoch": 4, "patience": 1, "learning_rate": 0.3}, None)],
    ids=["all steps", "early stopping"],
)
def test_a_run_that_dies_after_its_last_checkpoint_takes_no_step_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], steps: int | None
) -> None:
    settings = {**SMALL, "method": "predictor", **more}  # 5 batches an epoch
    predgen.fit(reviews(50), "stars", out=tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        patch.setattr(PredGenTrainer, "_load_best_model", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predgen.fit(reviews(50), "stars", out=tmp_path / "parts", **settings)
    predgen.fit(reviews(50), "stars", out=tmp_path / "parts", resume=True, **settings)
    whole, parts = (json.loads((tmp_path / name / "predgen.json").read_text())["record"] for name in ("whole", "parts"))
    assert whole["steps"] == parts["steps"] == (steps or whole["steps"])
    assert (steps is None) == (whole["steps"] < whole["max_steps"])
    evaluations = [[line for line in one["history"] if "eval_mse" in line] for one in (whole, parts)]
    assert [line["step"] for line in evaluations[0]] == [line["step"] for line in evaluations[1]]
    assert whole["best_step"] == parts["best_step"]


def test_an_unfinished_run_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = reviews(40)
    with monkeypatch.context() as patch:
        _stop_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            predgen.fit(table, "mood", out=tmp_path / "run", **SMALL)
    with pytest.raises(predgen.OutputExistsError, match="--resume to go on"):
        predgen.fit(table, "mood", out=tmp_path / "run", **SMALL)
    with pytest.raises(predgen.ConfigError, match="settings that the unfinished run was started with"):
        predgen.fit(table, "mood", out=tmp_path / "run", resume=True, **{**SMALL, "seed": 3})
    with pytest.raises(predgen.ConfigError, match="Expected the rows that the unfinished run"):
        predgen.fit(reviews(40, seed=1), "mood", out=tmp_path / "run", resume=True, **SMALL)
    with pytest.raises(predgen.ConfigError, match="to resume, found none"):
        predgen.fit(table, "mood", out=tmp_path / "other", resume=True, **SMALL)
    predgen.fit(table, "mood", out=tmp_path / "run", overwrite=True, **{**SMALL, "max_steps": 1})
    assert (tmp_path / "run" / "predgen.json").exists()


@pytest.mark.parametrize("step", ["begin", "fit_prepared"])
def test_an_interruption_before_the_first_checkpoint_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(fitting, step)

    def interrupted(*args: Any, **kwargs: Any) -> None:
        if step != "fit_prepared":
            original(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        predgen.fit(reviews(40), "mood", out=tmp_path / "run", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PredGen.forward

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        parts = original(self, *args, **kwargs)
        broken.calls += 1  # type: ignore[attr-defined]
        return {**parts, "loss": parts["loss"] * float("nan")} if broken.calls > 6 else parts  # type: ignore[attr-defined]

    broken.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(PredGen, "forward", broken)
    with pytest.raises(predgen.TrainingError, match=r"finite loss, found nan at step 7.*finished before"):
        predgen.fit(reviews(50), "mood", out=tmp_path / "run", **{**SMALL, "epochs": 4, "director_form": "states"})
    checkpoints = list((tmp_path / "run.unfinished" / "checkpoints").glob("checkpoint-*"))
    assert checkpoints
    for checkpoint in checkpoints:
        assert all(bool(torch.isfinite(one).all()) for one in load_file(checkpoint / "model.safetensors").values())


def test_a_gradient_that_is_not_finite_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    original = PredGen.forward

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        parts = original(self, *args, **kwargs)
        # Finite value, infinite derivative.
        return {**parts, "loss": parts["loss"] + (parts["loss"] * 0.0).sqrt()}

    monkeypatch.setattr(PredGen, "forward", broken)
    with pytest.raises(predgen.TrainingError, match="finite gradient"):
        predgen.fit(reviews(40), "mood", **SMALL, director_form="states")


def _gradients_of_first_step(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    with monkeypatch.context() as patch:
        original = PredGenTrainer._clip_grad_norm

        def spy(self: Any, model: torch.nn.Module) -> Any:
            for name, parameter in self.model.named_parameters():
                if parameter.grad is not None:
                    found[name] = parameter.grad.detach().clone()
            return original(self, model)

        patch.setattr(PredGenTrainer, "_clip_grad_norm", spy)
        predgen.fit(reviews(27), "mood", **{**SMALL, "max_steps": 1, "loss": "sum", **settings})
    return found


def test_accumulated_sum_equals_one_big_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # 21 training rows: the last of three micro-batches of 8 has 5 rows, and counts 5/21.
    whole = _gradients_of_first_step(monkeypatch, batch_size=21)
    parts = _gradients_of_first_step(monkeypatch, batch_size=8, accumulation=3)
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        assert torch.allclose(gradient, parts[name], atol=1e-5 + 1e-4 * float(gradient.abs().max())), name


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = predgen.fit(reviews(40), "mood", **{**SMALL, "seed": seed, "max_steps": 3})
        return torch.cat([one.detach().flatten() for one in model.method.parameters() if one.requires_grad])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_record_says_how_training_went() -> None:
    model = predgen.fit(reviews(60), "stars", **SMALL, director_form="states")
    record = model.record
    assert record["train_rows"] == 48
    assert record["split_seed"] == model.config.train.seed
    assert record["rows_sha256"] == prepared_for(model.config, reviews(60)).fingerprint()
    assert record["steps"] == record["max_steps"] == 12
    logged = [one for one in record["history"] if "loss" in one]
    assert {"writer_loss", "director_loss", "sampling_probability"} <= set(logged[0])
    assert logged[-1]["sampling_probability"] == 1.0
    evaluated = [one for one in record["history"] if "eval_mse" in one]
    assert min(one["eval_mse"] for one in evaluated) == record["best_metric"]
    json.dumps(record, allow_nan=False)


def test_rate_and_sampling_rise_over_so_many_steps_as_are_asked_for() -> None:
    settings = {**SMALL, "sampling_steps": 24, "warmup_steps": 5, "learning_rate": 1e-3}
    record = predgen.fit(reviews(60), "stars", **settings).record
    logged = {one["step"]: one for one in record["history"] if "loss" in one}
    assert record["steps"] == 12
    assert logged[6]["sampling_probability"] == pytest.approx(6 / 24)
    assert logged[12]["sampling_probability"] == pytest.approx(12 / 24)
    rates = [logged[step]["learning_rate"] for step in sorted(logged)]
    assert rates.index(max(rates)) in (4, 5)  # a log holds the rate of the step before or after


def test_early_stopping_ends_a_run_that_makes_no_progress() -> None:
    # A backbone learning rate of nearly nothing cannot beat its first validation three times.
    settings = {**SMALL, "epochs": 30, "patience": 2, "learning_rate": 1e-12, "head_learning_rate": 1e-12}
    model = predgen.fit(reviews(40), "mood", **settings)
    assert model.record["steps"] < model.record["max_steps"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(predgen.ConfigError, match="Expected a CUDA device, found none"):
        predgen.fit(reviews(40), "mood", **{**SMALL, "device": "cuda"})


@pytest.mark.parametrize("name", ["no_such_board", "comet_ml"])
def test_an_integration_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(predgen.ConfigError, match=f"integrations that are installed for report_to, found {name}"):
        predgen.fit(reviews(40), "mood", **SMALL, report_to=[name])


def test_only_a_method_that_samples_logs_a_probability() -> None:
    def logged(**settings: Any) -> set[str]:
        return set().union(*predgen.fit(reviews(40), "mood", **SMALL, **settings).record["history"])

    assert "sampling_probability" in logged(director_form="states")
    assert "sampling_probability" not in logged() | logged(method="generator") | logged(method="predictor")


# ---- faults of the machine


def _stopped_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Path:
    """Returns the checkpoints of a run that died in its third epoch; six validations make six checkpoints."""
    with monkeypatch.context() as patch:
        _stop_after(patch, 13)
        with pytest.raises(KeyboardInterrupt):
            predgen.fit(reviews(50), "stars", out=tmp_path / "parts", **settings)
    return tmp_path / "parts.unfinished" / "checkpoints"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["truncated", "changed", "not sealed", "state"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    settings = {**SMALL, "epochs": 3, "evals_per_epoch": 2, "patience": 9, "schedule": "adaptive"}
    predgen.fit(reviews(50), "stars", out=tmp_path / "whole", **settings)
    checkpoints = checkpoints_in(_stopped_run(tmp_path, monkeypatch, **settings))
    assert len(checkpoints) == 2
    newest, before = checkpoints
    weights = newest / "model.safetensors"
    if fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-7])
    elif fault == "changed":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(bytes(content))
    elif fault == "not sealed":
        (newest / "checkpoint.json").unlink()
    else:
        (newest / "optimizer.pt").unlink()
    predgen.fit(reviews(50), "stars", out=tmp_path / "parts", resume=True, **settings)
    assert f"'{newest}' is damaged or was not written to its end; going on from '{before.name}'." in caplog.text
    whole, parts = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_without_a_whole_checkpoint_a_run_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**SMALL, "epochs": 3, "evals_per_epoch": 2}
    predgen.fit(reviews(50), "stars", out=tmp_path / "whole", **settings)
    for checkpoint in checkpoints_in(_stopped_run(tmp_path, monkeypatch, **settings)):
        (checkpoint / "trainer_state.json").write_text("{")
    predgen.fit(reviews(50), "stars", out=tmp_path / "parts", resume=True, **settings)
    assert caplog.text.count("going on from the beginning.") == 2
    whole, parts = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_leaves_no_half_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, "epochs": 3, "evals_per_epoch": 2}
    original = Trainer._save_optimizer_and_scheduler

    def full(self: Any, folder: str) -> None:
        if self.state.global_step > 5:
            raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")
        original(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises(predgen.TrainingError, match=r"write the checkpoint .*file write failed.*--resume"):
            predgen.fit(reviews(50), "stars", out=tmp_path / "run", **settings)
    left = checkpoints_in(tmp_path / "run.unfinished" / "checkpoints")
    assert [path.name for path in left] == ["checkpoint-3"]
    predgen.fit(reviews(50), "stars", out=tmp_path / "run", resume=True, **settings)
    predgen.fit(reviews(50), "stars", out=tmp_path / "whole", **settings)
    whole, parts = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def _memory_for(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Makes larger batches fail as a device without memory does."""
    original = PredGenTrainer.compute_loss

    def limited(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if len(inputs["batch"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(PredGenTrainer, "compute_loss", limited)


@pytest.mark.slow
def test_out_of_memory_halves_the_batch_and_doubles_the_accumulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = predgen.fit(reviews(50), "stars", **{**SMALL, "batch_size": 3, "accumulation": 4})
    _memory_for(monkeypatch, 3)
    settings = {**SMALL, "batch_size": 12}
    model = predgen.fit(reviews(50), "stars", out=tmp_path / "model", **settings)
    assert "Out of memory with batches of 12 rows: beginning again with 6, accumulated 2 times." in caplog.text
    assert "Out of memory with batches of 6 rows: beginning again with 3, accumulated 4 times." in caplog.text
    assert (model.record["batch_size"], model.record["accumulation"]) == (3, 4)
    for one, other in zip(model.method.parameters(), wanted.method.parameters(), strict=True):
        assert torch.equal(one, other)
    # A resumed run keeps to the batches it had come down to.
    with monkeypatch.context() as patch:
        _stop_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            predgen.fit(reviews(50), "stars", out=tmp_path / "parts", **settings)
    caplog.clear()
    parts = predgen.fit(reviews(50), "stars", out=tmp_path / "parts", resume=True, **settings)
    assert "Out of memory" not in caplog.text
    for one, other in zip(parts.method.parameters(), wanted.method.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_row_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _memory_for(monkeypatch, 0)
    with pytest.raises(predgen.TrainingError, match="one row at a time to fit into memory, found that it does not"):
        predgen.fit(reviews(40), "mood", **{**SMALL, "max_steps": 1})


@pytest.mark.parametrize(
    ("batch", "accumulation", "smaller"), [(16, 1, (8, 2)), (12, 2, (6, 4)), (5, 1, (1, 5)), (9, 1, (3, 3))]
)
def test_smaller_batches_step_over_the_same_rows(batch: int, accumulation: int, smaller: tuple[int, int]) -> None:
    found = smaller_batches(TrainSettings(batch_size=batch, accumulation=accumulation, eval_batch_size=64))
    assert (found.batch_size, found.accumulation) == smaller
    assert found.eval_batch_size == 32
    assert found.batch_size * found.accumulation == batch * accumulation
