"""Prediction chunk by chunk: the road with a thread is held to the plain one, and what does not fit is halved."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

import predgen
from predgen.methods.buckets import BatchLimits
from predgen.models.asked import Asked
from predgen.models.streaming import predict_chunks, predict_file
from predgen.tables.reading import read_table, stream_table
from predgen.tables.saving import TableWriter
from tests.helpers.commands import refused, run
from tests.helpers.tables import reviews

SMALL: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 2, "quiet": True, "device": "cpu"}
ROADS = pytest.mark.parametrize("ahead", [False, True], ids=["plain", "ahead"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the artifact of a model of labels."""
    path = tmp_path_factory.mktemp("models") / "mood"
    predgen.fit(reviews(40), "mood", out=path, **SMALL)
    return path


@pytest.fixture
def model(folder: Path) -> predgen.Model:
    return predgen.load(folder, device="cpu")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("predgen.models.streaming.ROWS_PER_CHUNK", 8)
    monkeypatch.chdir(tmp_path)


def table_of(rows: pd.DataFrame, name: str = "rows.csv") -> str:
    with TableWriter(name) as writer:
        writer.write(rows)
    return name


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("predgen-rows")]


def batches_of(model: predgen.Model, monkeypatch: pytest.MonkeyPatch, most_rows: int = 1000) -> list[tuple[int, int]]:
    """Returns the list in which the shapes of the prediction batches will be; batches of more rows do not fit."""
    shapes: list[tuple[int, int]] = []
    original = model.method.answer_each

    def answer(prompt: torch.Tensor, *args: Any, **options: Any) -> Any:
        if len(prompt) > most_rows:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9.")
        shapes.append((prompt.shape[0], prompt.shape[1]))
        return original(prompt, *args, **options)

    monkeypatch.setattr(model.method, "answer_each", answer)
    return shapes


# ---- both roads


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_both_roads_write_the_same_to_the_bit(model: predgen.Model, name: str) -> None:
    rows = reviews(30, seed=4)
    table = table_of(rows, name)
    asked = Asked(probabilities=True)
    seen = []
    for ahead in (False, True, True):
        out = Path(f"{len(seen)}-{name}")
        seen.append(predict_file(model, table, TableWriter(out), asked=asked, ahead=ahead))
    written = [Path(f"{place}-{name}").read_bytes() for place in range(3)]
    assert written[0] == written[1] == written[2]
    assert [(one.rows, one.invalid) for one in seen] == [(30, 0)] * 3
    # Which is what chunks that are predicted one by one have.
    alone = [model.predict(chunk, probabilities=True) for chunk in stream_table(table, 8)]
    together = list(predict_chunks(model, stream_table(table, 8), asked=asked))
    for one, other in zip(together, alone, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert list(read_table(f"1-{name}")["review"]) == list(rows["review"])
    assert no_thread_is_left()


def test_one_chunk_is_encoded_ahead_in_a_thread_and_no_more(
    model: predgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, answered, ahead_of = set(), 0, []
    encode, answer = predgen.Model.encode, predgen.Model.predict_encoded

    def encoded(self: predgen.Model, rows: pd.DataFrame, asked: Asked) -> Any:
        threads.add(threading.current_thread().name)
        ahead_of.append(int(rows.index[0]) // 8 - answered)
        return encode(self, rows, asked)

    def predicted(self: predgen.Model, one: Any, asked: Asked, warnings: Any) -> pd.DataFrame:
        nonlocal answered
        assert threading.current_thread() is threading.main_thread()
        answers = answer(self, one, asked, warnings)
        answered += 1
        return answers

    monkeypatch.setattr(predgen.Model, "encode", encoded)
    monkeypatch.setattr(predgen.Model, "predict_encoded", predicted)
    for number, answers in enumerate(predict_chunks(model, stream_table(table_of(reviews(40)), 8), asked=Asked())):
        assert list(answers.index) == list(range(8 * number, 8 * number + 8))
    assert answered == 5
    assert len(threads) == 1
    assert "predgen-rows" in next(iter(threads))
    assert max(ahead_of) == 1


@ROADS
def test_a_fault_is_raised_when_its_turn_has_come(model: predgen.Model, ahead: bool) -> None:
    rows = reviews(30)
    rows.loc[19, "review"] = " "
    chunks = predict_chunks(model, stream_table(table_of(rows), 8), asked=Asked(), ahead=ahead)
    assert [len(next(chunks)) for _ in range(2)] == [8, 8]
    with pytest.raises(predgen.DataError, match="input text in row 20, column 'review', found an empty cell"):
        next(chunks)
    with pytest.raises(predgen.DataError, match="row 20"):
        predict_file(model, "rows.csv", TableWriter("answers.csv"), asked=Asked(), ahead=ahead)
    assert [path.name for path in Path().iterdir()] == ["rows.csv"]
    assert no_thread_is_left()


@ROADS
@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_an_interruption_leaves_no_file_and_no_thread(
    model: predgen.Model, monkeypatch: pytest.MonkeyPatch, ahead: bool, fault: type[BaseException]
) -> None:
    table = table_of(reviews(30))
    original = TableWriter.write
    written = []

    def write(self: TableWriter, frame: pd.DataFrame) -> None:
        original(self, frame)
        written.append(len(frame))
        if len(written) == 2:
            raise fault

    monkeypatch.setattr(TableWriter, "write", write)
    with pytest.raises(fault):
        predict_file(model, table, TableWriter("answers.csv"), asked=Asked(), ahead=ahead)
    assert written == [8, 8]
    assert [path.name for path in Path().iterdir()] == ["rows.csv"]
    assert no_thread_is_left()


def test_an_interruption_inside_of_the_model_waits_for_the_thread(
    model: predgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(reviews(30))

    def interrupted(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(model.method, "answer_each", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_file(model, table, TableWriter("answers.csv"), asked=Asked())
    assert [path.name for path in Path().iterdir()] == ["rows.csv"]
    assert no_thread_is_left()


def test_a_source_that_ends_with_a_fault_is_closed(model: predgen.Model) -> None:
    closed = []

    def chunks() -> Iterator[pd.DataFrame]:
        try:
            yield reviews(4)
            raise predgen.DataError("row 5 is broken")
        finally:
            closed.append(threading.current_thread().name)

    with pytest.raises(predgen.DataError, match="row 5 is broken"):
        list(predict_chunks(model, chunks(), asked=Asked()))
    assert len(closed) == 1


def test_a_spread_that_a_model_does_not_have_is_refused_before_anything_is_read(model: predgen.Model) -> None:
    with pytest.raises(predgen.ConfigError, match="Ask for probabilities instead"):
        next(predict_chunks(model, iter([reviews(4)]), asked=Asked(std=True)))


# ---- the size of batches


@pytest.mark.slow
def test_settings_bound_rows_and_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = reviews(30, seed=4)
    wanted = predgen.load(folder, device="cpu").predict(rows, probabilities=True)
    for settings in ({"eval_batch_size": 3}, {"eval_batch_tokens": 100}, {"eval_batch_tokens": 1}):
        path = tmp_path / "-".join(f"{name}-{value}" for name, value in settings.items())
        shutil.copytree(folder, path)
        description = json.loads((path / "predgen.json").read_text())
        description["config"]["train"] |= settings
        (path / "predgen.json").write_text(json.dumps(description))
        model = predgen.load(path, device="cpu")
        shapes = batches_of(model, monkeypatch)
        found = model.predict(rows, probabilities=True)
        assert sum(size for size, _ in shapes) == 30
        if "eval_batch_size" in settings:
            assert max(size for size, _ in shapes) == 3
        else:
            tokens = settings["eval_batch_tokens"]
            assert all(size == 1 or size * length <= tokens for size, length in shapes)
            assert (max(size for size, _ in shapes) > 1) == (tokens == 100)
        # Equal up to rounding, and the same call twice to the bit.
        for column in ("probability_good", "probability_bad"):
            assert found[column].to_numpy() == pytest.approx(wanted[column].to_numpy(), abs=1e-5)
        pd.testing.assert_frame_equal(model.predict(rows, probabilities=True), found, check_exact=True)


def test_an_artifact_from_before_the_budget_of_tokens_predicts(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "old"
    shutil.copytree(folder, path)
    description = json.loads((path / "predgen.json").read_text())
    del description["config"]["train"]["eval_batch_tokens"]
    description["config"]["train"]["eval_batch_size"] = 64
    del description["files"]  # nor had it hashes
    (path / "predgen.json").write_text(json.dumps(description))
    config = yaml.safe_load((path / "config.yaml").read_text())
    del config["train"]["eval_batch_tokens"]
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    old, new = (predgen.load(one, device="cpu") for one in (path, folder))
    assert old.config.train.eval_batch_size == 64
    rows = reviews(20, seed=4)  # one batch either way
    pd.testing.assert_frame_equal(old.predict(rows), new.predict(rows), check_exact=True)


def test_too_little_memory_halves_the_batches_of_all_chunks_and_loses_nothing(
    model: predgen.Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of(reviews(30, seed=4))
    wanted = list(predict_chunks(model, stream_table(table, 8), asked=Asked(probabilities=True)))
    shapes = batches_of(model, monkeypatch, most_rows=3)
    found = list(predict_chunks(model, stream_table(table, 8), asked=Asked(probabilities=True)))
    assert [size for size, _ in shapes] == [2] * 15
    for one, other in zip(found, wanted, strict=True):
        assert list(one["review"]) == list(other["review"])
        assert one["probability_good"].to_numpy() == pytest.approx(other["probability_good"].to_numpy(), abs=1e-5)
    warned = [record.message for record in caplog.records if "Out of memory" in record.message]
    assert len(warned) == 1
    assert "with a prediction batch of 8 rows" in warned[0]
    assert "going on with at most 2 rows" in warned[0]


def test_a_row_that_does_not_fit_is_one_clear_error(
    folder: Path, model: predgen.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches_of(model, monkeypatch, most_rows=0)
    with pytest.raises(predgen.TrainingError, match="Expected one row at a time to fit into memory"):
        model.predict(reviews(5))
    monkeypatch.setattr(predgen, "load", lambda **_: model)
    message = refused("predict", folder, table_of(reviews(5)), "--out", "answers.csv")
    assert "Expected one row at a time to fit into memory, found that it does not." in message
    assert not Path("answers.csv").exists()


def test_validation_while_fitting_gets_by_with_little_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = predgen.methods.PredGen.answer_each

    def answer(self: Any, prompt: torch.Tensor, *args: Any, **options: Any) -> Any:
        if len(prompt) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, prompt, *args, **options)

    monkeypatch.setattr(predgen.methods.PredGen, "answer_each", answer)
    model = predgen.fit(reviews(40), "mood", **SMALL)
    assert model.record["batch_size"] == 8  # training had memory enough, and did not begin again
    assert "Out of memory with a prediction batch of 4 rows" in caplog.text


def test_the_command_streams(folder: Path) -> None:
    table = table_of(reviews(30, seed=4))
    done = run("predict", folder, table, "--out", "answers.csv", "--json", "done.json")
    assert done.code == 0, done
    found = json.loads(Path("done.json").read_text())
    assert (found["rows"], found["invalid"], found["out"]) == (30, 0, "answers.csv")
    assert f"30 answers in 'answers.csv', 0 of them invalid, {found['examples_per_second']:.0f} rows" in done.stdout
    assert len(read_table("answers.csv")) == 30


def test_limits_of_a_number_of_rows_and_limits_themselves() -> None:
    limits = BatchLimits(4, 9)
    assert BatchLimits.of(limits) is limits
    assert BatchLimits.of(4) == BatchLimits(4)
