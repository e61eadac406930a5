"""Models on the hub: pushed, downloaded, pinned, refused. The hub is a server on this machine."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

import predgen
from predgen.errors import ArtifactError, ConfigError
from predgen.models.artifact import files_of
from predgen.models.hub import find_artifact, names_hub_model
from tests.helpers.commands import files_in, refused, run
from tests.helpers.hub_server import TOKEN, LocalHub, Repository, local_hub, use_hub
from tests.helpers.tables import reviews

# The hub's client itself uploads large files so.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

NAME = "us/moods"
ROWS = [{"review": "a lovely and warm film"}, {"review": "a dull and cold film"}]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a fitted model, in whose folder other things lie, too."""
    folder = tmp_path_factory.mktemp("models") / "model"
    predgen.fit(
        reviews(60),
        "mood",
        inputs=["review"],
        out=folder,
        max_steps=2,
        batch_size=8,
        device="cpu",
        backbone="builtin:nano",
        quiet=True,
    )
    return folder


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(fitted, tmp_path / "model"))
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / "optimizer.pt").write_bytes(b"large")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    monkeypatch.chdir(tmp_path)
    with local_hub() as hub:
        use_hub(hub, tmp_path / "cache", monkeypatch)
        yield hub


def expected_files(folder: Path) -> dict[str, bytes]:
    files = {name: file.read_bytes() for name, file in files_of(folder).items()}
    card = (folder / "README.md").read_bytes().replace(b'load("PATH")', f'load("{NAME}")'.encode())
    return {**files, "predgen.json": (folder / "predgen.json").read_bytes(), "README.md": card}


def answers(model: predgen.Model) -> pd.DataFrame:
    return model.predict(ROWS, probabilities=True)


# ---- there and back


def test_a_pushed_model_has_exactly_its_files_and_answers_as_the_local_one(
    hub: LocalHub, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pushed = predgen.push(model, NAME)
    files = hub.files(NAME)
    assert files.pop(".gitattributes")
    assert files == expected_files(model)
    assert set(pushed.files) == set(files)
    assert f'predgen.load("{NAME}")'.encode() in files["README.md"]
    assert (pushed.url, pushed.private) == (f"{hub.url}/{NAME}", True)
    assert pushed.commit == hub.repositories[NAME].branches["main"]
    assert hub.repositories[NAME].private
    with caplog.at_level(logging.INFO, "predgen"):
        loaded = predgen.load(NAME)
    assert loaded.origin == f"{NAME}@{pushed.commit}"
    assert f"the revision main is the commit {pushed.commit}." in caplog.text
    pd.testing.assert_frame_equal(answers(loaded), answers(predgen.load(model)), check_exact=True)
    assert predgen.load(model).origin is None


def test_a_model_in_memory_is_pushed_as_its_artifact(hub: LocalHub, model: Path) -> None:
    predgen.push(predgen.load(model), NAME)
    assert set(hub.files(NAME)) == {*expected_files(model), ".gitattributes"}
    pd.testing.assert_frame_equal(answers(predgen.load(NAME)), answers(predgen.load(model)), check_exact=True)


def test_an_artifact_without_hashes_is_saved_anew(hub: LocalHub, model: Path) -> None:
    described = json.loads((model / "predgen.json").read_text())
    del described["files"]
    (model / "predgen.json").write_text(json.dumps(described))
    (model / "tokenizer" / "secrets.txt").write_text("mine")
    predgen.push(model, NAME)
    assert "tokenizer/secrets.txt" not in hub.files(NAME)
    pd.testing.assert_frame_equal(answers(predgen.load(NAME)), answers(predgen.load(model)), check_exact=True)


def test_only_the_files_of_an_artifact_are_downloaded(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    predgen.push(model, NAME)
    repository = hub.repositories[NAME]
    strange = {"pytorch_model.bin": b"pickle", "tokenizer/code.py": b"import os", "modeling.py": b"import os"}
    repository.commit("main", {**hub.files(NAME), **strange}, "more")
    loaded = predgen.load(NAME)
    (snapshot,) = (tmp_path / "cache" / "models--us--moods" / "snapshots").iterdir()
    assert set(files_in(snapshot)) == set(expected_files(model))
    assert len(answers(loaded)) == 2


def test_a_revision_pins_a_commit(hub: LocalHub, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = predgen.push(model, NAME, tag="v1", message="the first")
    (model / "README.md").write_text("# Other words\n")
    second = predgen.push(model, NAME)
    third = predgen.push(model, NAME, revision="trial", message="a trial")
    assert (hub.repositories[NAME].messages[1], hub.repositories[NAME].tags) == ("the first", {"v1": first.commit})
    assert first.commit != second.commit
    for revision, commit in (("v1", first), (first.commit, first), (None, second), ("main", second), ("trial", third)):
        assert predgen.load(NAME, revision=revision).origin == f"{NAME}@{commit.commit}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for revision, commit in (("v1", first), (first.commit, first), (None, second)):
        assert predgen.load(NAME, revision=revision).origin == f"{NAME}@{commit.commit}"


def test_an_update_takes_away_old_tokenizer_files_and_keeps_what_is_of_the_repository(
    hub: LocalHub, model: Path
) -> None:
    predgen.push(model, NAME)
    repository = hub.repositories[NAME]
    repository.commit("main", {**hub.files(NAME), "tokenizer/old.json": b"{}", "LICENSE": b"mine"}, "by hand")
    pushed = predgen.push(model, NAME, message="again")
    assert set(hub.files(NAME)) == {*expected_files(model), ".gitattributes", "LICENSE"}
    assert repository.messages[-1] == "again"
    assert predgen.push(model, NAME).commit == pushed.commit  # nothing has changed
    predgen.push(model, NAME, tag="v1")
    with pytest.raises(ConfigError, match="Expected a new tag, found that 'us/moods' has the tag 'v1'"):
        predgen.push(model, NAME, tag="v1")


def test_a_tag_that_the_hub_does_not_take_is_said_beside_the_commit(hub: LocalHub, model: Path) -> None:
    said = refused("push", model, NAME, "--tag", "version 1")
    assert "Expected the hub to take the tag 'version 1'" in said
    assert f"as the commit {hub.repositories[NAME].branches['main']}. Name another tag." in said


def test_a_folder_of_that_name_wins(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    predgen.push(model, NAME)
    assert names_hub_model(NAME)
    assert not names_hub_model(Path(NAME))
    (tmp_path / "us").mkdir()
    shutil.copytree(model, tmp_path / NAME)
    before = list(hub.asked)
    assert predgen.load(NAME).origin is None
    assert hub.asked == before
    with pytest.raises(ConfigError, match=r"Expected a revision .* found it with the local 'us/moods'\. Leave it out"):
        predgen.load(NAME, revision="v1")


# ---- who sees it


def test_a_repository_is_public_only_where_it_is_asked_for_twice(hub: LocalHub, model: Path) -> None:
    assert "Expected a yes to a public model, found none: nothing was pushed." in refused(
        "push", model, NAME, "--public"
    )
    assert NAME not in hub.repositories
    done = run("push", model, NAME, "--public", "--yes")
    assert (done.code, hub.repositories[NAME].private) == (0, False), done
    assert f"is at {hub.url}/{NAME} (public), commit {hub.repositories[NAME].branches['main']}." in done.stdout
    assert run("push", model, "us/other").code == 0
    assert hub.repositories["us/other"].private
    assert [sent.get("visibility", sent.get("private")) for sent in hub.created] in (
        ["public", "private"],
        [False, True],
    )


def test_what_is_private_never_goes_where_all_see_it(hub: LocalHub, model: Path) -> None:
    predgen.push(model, NAME, private=False)
    before = dict(hub.repositories[NAME].branches)
    assert "Expected a private repository, found that 'us/moods' is there and public" in refused("push", model, NAME)
    assert hub.repositories[NAME].branches == before
    predgen.push(model, "us/mine")
    with pytest.raises(ConfigError, match="Expected a public repository, found that 'us/mine' is there and private"):
        predgen.push(model, "us/mine", private=False)


@pytest.mark.parametrize(("token", "message"), [("hf_wrong", "takes no such token"), (None, "or there is none")])
def test_a_push_needs_a_token_that_may(
    hub: LocalHub, model: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, message: str
) -> None:
    use_hub(hub, Path("cache"), monkeypatch, token)
    said = refused("push", model, NAME)
    assert "refuses it (401)" in said
    assert message in said
    assert hub.repositories == {}


def test_a_push_to_others_is_refused(hub: LocalHub, model: Path) -> None:
    assert "refuses it (403). Your token may not write there" in refused("push", model, "others/moods")


@pytest.mark.parametrize(
    ("name", "message"), [("moods", "Expected a name of the hub such as 'org/name', found 'moods'"), ("a/b/c", "a/b/c")]
)
def test_a_push_needs_a_name_of_the_hub(hub: LocalHub, model: Path, name: str, message: str) -> None:
    assert message in refused("push", model, name)
    assert hub.asked == []


# ---- what is not pushed


def test_a_damaged_model_is_not_pushed(hub: LocalHub, model: Path) -> None:
    with (model / "weights.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    assert "found damage in" in refused("push", model, NAME)
    assert "Expected a PredGen artifact" in refused("push", "nowhere", NAME)
    assert hub.asked == []


def test_a_model_over_a_base_of_this_machine_is_pushed_only_where_it_is_asked_for(
    hub: LocalHub, llama: Path, tmp_path: Path
) -> None:
    out = tmp_path / "over-llama"
    predgen.fit(
        reviews(60), "mood", inputs=["review"], out=out, max_steps=1, device="cpu", backbone=str(llama), quiet=True
    )
    said = refused("push", out, NAME)
    assert f"was fitted over '{llama}' on this machine" in said
    assert "--local-base" in said
    assert hub.asked == []
    assert run("push", out, NAME, "--local-base").code == 0
    moved = llama.rename(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="--backbone PATH"):
        predgen.load(NAME)
    assert len(answers(predgen.load(NAME, backbone=moved))) == 2


def test_a_card_that_leads_elsewhere_is_not_pushed(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mine")
    (model / "README.md").unlink()
    (model / "README.md").symlink_to(tmp_path / "secret")
    assert "found another thing at" in refused("push", model, NAME)
    (model / "README.md").unlink()
    assert run("push", model, NAME).code == 0
    assert b"library_name: predgen" in hub.files(NAME)["README.md"]


# ---- what cannot be had


def test_what_the_hub_does_not_give_is_said_in_one_line(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    predgen.push(model, NAME)
    text = ("--text", "words")
    assert "no folder 'us/nothing' here, and on the hub none of that name" in refused("predict", "us/nothing", *text)
    found = refused("predict", NAME, *text, "--revision", "v9")
    assert "found no 'v9' there. Correct the revision (--revision)" in found
    hub.repositories["us/base"] = Repository(private=False)
    hub.repositories["us/base"].commit("main", {"model.safetensors": b"weights", "config.json": b"{}"}, "a base")
    assert "found none in 'us/base' on the hub" in refused("predict", "us/base", *text)
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    hub.repositories["us/gated"] = Repository(private=False, gated=True)
    hub.repositories["us/gated"].commit("main", hub.files(NAME), "gated")
    assert "found that 'us/gated' is gated. Ask for access" in refused("predict", "us/gated", *text)


def test_a_private_model_is_not_had_without_its_token(
    hub: LocalHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predgen.push(model, NAME)
    predgen.load(NAME)
    use_hub(hub, Path("cache"), monkeypatch, None)
    with pytest.raises(ArtifactError, match="none of that name that you may read"):
        predgen.load(NAME)  # though it is cached: the hub refuses it
    use_hub(hub, Path("cache"), monkeypatch, "hf_wrong")
    with pytest.raises(ArtifactError, match="Invalid credentials"):
        predgen.load(NAME)


def test_without_the_hub_the_cache_answers_or_it_is_said(
    hub: LocalHub, model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pushed = predgen.push(model, NAME)
    use_hub(hub, Path("empty"), monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    start = time.monotonic()
    said = refused("evaluate", NAME, "t.csv")
    assert "no folder 'us/moods' here; the hub cannot be reached, and its cache holds no whole copy" in said
    assert time.monotonic() - start < 5
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    predgen.load(NAME)
    hub.down = True
    with caplog.at_level(logging.INFO, "predgen"):
        assert predgen.load(NAME).origin == f"{NAME}@{pushed.commit}"
    assert "from the cache, as the hub cannot be reached" in caplog.text
    with pytest.raises(ArtifactError, match="no whole copy of the revision v9"):
        predgen.load(NAME, revision="v9")
    Path(find_artifact(NAME).folder / "weights.safetensors").unlink()
    with pytest.raises(ArtifactError, match="no whole copy of the revision main"):
        predgen.load(NAME)


def test_what_was_changed_on_the_hub_is_refused(hub: LocalHub, model: Path) -> None:
    predgen.push(model, NAME)
    files = hub.files(NAME)
    weights = files["weights.safetensors"]
    hub.repositories[NAME].commit("main", {**files, "weights.safetensors": weights[:-1] + b"?"}, "changed")
    with pytest.raises(ArtifactError, match=r"damage in .*weights\.safetensors"):
        predgen.load(NAME)
    description = json.loads(files["predgen.json"])
    description["files"]["../../../stolen"] = "0" * 64
    hub.repositories[NAME].commit("main", {**files, "predgen.json": json.dumps(description).encode()}, "a path")
    with pytest.raises(ArtifactError, match="no such file"):
        predgen.load(NAME)


def test_a_link_out_of_the_cache_is_refused(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    predgen.push(model, NAME)
    file = find_artifact(NAME).folder / "config.yaml"
    content = file.read_bytes()
    file.unlink()
    (tmp_path / "outside.yaml").write_bytes(content)
    file.symlink_to(tmp_path / "outside.yaml")
    with pytest.raises(ArtifactError, match=r"config\.yaml' leads out of it"):
        predgen.load(NAME)


# ---- the commands


def test_every_command_that_takes_a_model_takes_one_of_the_hub(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    predgen.push(model, NAME, tag="v1")
    reviews(30).to_csv("t.csv", index=False)
    pinned = ("--revision", "v1")
    for command in (
        ("predict", NAME, "t.csv", "--out", "answers.csv"),
        ("evaluate", NAME, "t.csv", "--json", "scores.json"),
        ("card", NAME, "t.csv", "--out", "card.md"),
    ):
        done = run(*command, *pinned)
        assert done.code == 0, done
        assert "the revision v1 is the commit" in done.stderr
        assert Path(command[-1]).exists()
    assert f'predgen.load("{NAME}")' in Path("card.md").read_text()
    snapshot = files_in(tmp_path / "cache")
    for command in (("calibrate", NAME, "t.csv"), ("card", NAME, "t.csv")):
        assert 'make a copy first: predgen.load("us/moods").save("copy")' in refused(*command)
    assert "Expected a revision" in refused("predict", model, "--text", "words", *pinned)
    assert files_in(tmp_path / "cache") == snapshot


@pytest.mark.skipif(find_spec("hf_xet") is None, reason="needs hf_xet, which huggingface_hub brings on most machines")
def test_a_hub_without_xet_is_refused_with_what_to_set(
    hub: LocalHub, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    with pytest.raises(ArtifactError, match=r"xet-write-token.*set HF_HUB_DISABLE_XET=1"):
        predgen.push(model, NAME)
    assert f"GET /api/models/{NAME}/xet-write-token/main" in hub.asked  # it did try
    assert hub.repositories[NAME].messages == ["initial commit"]


@pytest.mark.slow
def test_the_program_itself_pushes_and_loads(hub: LocalHub, model: Path, tmp_path: Path) -> None:
    # In a process of its own, as people have it: the client reads its environment when it is imported.
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    program = [sys.executable, "-m", "predgen"]

    def do(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*program, *arguments], env=environment, capture_output=True, text=True, check=False)

    pushed = do("push", model, NAME, "--json", "pushed.json", "--quiet")
    assert pushed.returncode == 0, pushed
    assert pushed.stdout.startswith(f"'{model}' is at {hub.url}/{NAME} (private), commit ")
    assert json.loads(Path("pushed.json").read_text())["commit"] == hub.repositories[NAME].branches["main"]
    predicted = do("predict", NAME, "--text", "a lovely film")
    assert predicted.returncode == 0, predicted
    assert len(predicted.stderr.splitlines()) == 1  # the commit, and no bars where there is no terminal
    assert predicted.stdout.split()[0] == run("predict", model, "--text", "a lovely film").stdout.split()[0]
    missing = do("predict", "us/nothing", "--text", "words")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert len(missing.stderr.splitlines()) == 1
