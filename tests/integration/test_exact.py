"""All targets in one write: exact scores and expectations, no gold, every kind; the Writer's answer before training."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

import predgen
from predgen import Label, LabelSet, Number, Ordinal
from predgen.backbones import Backbone
from predgen.methods.base import num_outputs_of
from predgen.methods.exact import MOST_READ, ExactPredGen, PrefixDirector
from predgen.methods.losses import TokenLoss, join_of
from predgen.targets.record import Target
from predgen.writing.scoring import score_all, score_tree
from tests.helpers.commands import refused
from tests.helpers.shapes import (
    LABEL,
    NUMBER,
    VALUES,
    batch_for,
    byte_level_tokenizer,
    save_model,
    tiny_method,
    tiny_model,
)
from tests.helpers.tables import reviews
from tests.integration.test_cross_attending import prompts_of
from tests.integration.test_peft_methods import SHAPES, backbone_of

RANKS, FEELINGS = ("bad", "so so", "good", "very good"), ("joy", "fear", "anger")
KINDS: dict[str, tuple[Target, list[Any]]] = {
    "number": (NUMBER, VALUES["number"]),
    "label": (LABEL, VALUES["label"]),
    "ordinal": (Ordinal(RANKS, RANKS), ["good", "bad", "so so", "very good", "bad"]),
    "set": (LabelSet(FEELINGS, FEELINGS), [("joy",), (), ("joy", "anger"), ("fear",), ("anger",)]),
    "one token": (Label(("a", "b"), ("a", "b")), ["a", "b", "b", "a", "b"]),
}


def correction(
    target: Target,
    *,
    full: bool = False,
    token_loss: TokenLoss | None = None,
    shape: str = "llama",
    backbone: Backbone | None = None,
    adds: bool = True,
) -> ExactPredGen:
    backbone = backbone or backbone_of(shape)
    writer = tiny_method("generator", backbone, target, full=full, token_loss=token_loss).writer
    trie = writer.trie_of(0)
    assert trie is not None
    num_outputs, has_prefixes = num_outputs_of(writer.fields), trie.num_nodes > 0
    director = PrefixDirector(backbone.hidden_size, num_outputs, has_prefixes=has_prefixes, starts_at_zero=adds)
    join = join_of("sum", squared_error=isinstance(target, Number))
    return ExactPredGen(writer, director, join, adds_writer=adds, joins_linearly=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", list(KINDS))
def test_before_training_the_answer_is_the_writers(kind: str, shape: str) -> None:
    target, values = KINDS[kind]
    method = correction(target, shape=shape).eval()
    batch = batch_for(method, prompts_of(method.backbone), values)
    memory = method.writer.symbols.read(batch.prompt, batch.prompt_mask)
    tree = score_tree(method.backbone, memory, method.writer.trie_of(0))
    assert torch.equal(tree.log_probabilities, score_all(method.backbone, memory, method.writer.trie_of(0)))
    outputs = method.fields[0].writer_outputs(method.writer.trie_of(0), tree.log_probabilities.float())
    assert torch.equal(method.told(memory, tree), outputs)
    [predicted] = method.head_predictions(outputs)
    covered = torch.ones_like(tree.log_probabilities[:, 0])
    known = method.fields[0].distribution(method.writer.trie_of(0), tree.log_probabilities, covered)
    expected = known.probabilities if known.distribution is None else known.distribution.estimate("mean")
    torch.testing.assert_close(predicted.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_writers_loss_is_the_generators(kind: str, full: bool) -> None:
    target, values = KINDS[kind]
    losses = [TokenLoss()]
    if kind == "number":
        losses += [TokenLoss("number_token"), TokenLoss("smoothed_digits"), TokenLoss("expected_value")]
    for token_loss in losses:
        method = correction(target, full=full, token_loss=token_loss)
        generator = tiny_method("generator", method.backbone, target, full=full, token_loss=token_loss)
        batch = batch_for(method, prompts_of(method.backbone), values)
        found, expected = method(batch)["writer_loss"], generator(batch)["writer_loss"]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        parameters = [one for one in method.backbone.parameters() if one.requires_grad]
        pairs = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (found, expected)]
        for ours, theirs in zip(*pairs, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None and theirs is not None:
                torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-4)


def test_prefixes_are_as_probable_as_the_targets_behind_them() -> None:
    method = correction(NUMBER)
    trie = method.writer.trie_of(0)
    assert trie is not None
    batch = batch_for(method, prompts_of(method.backbone), VALUES["number"])
    _, tree = method._read_and_scored(batch.prompt, batch.prompt_mask)
    scores, reached = tree.log_probabilities.double(), trie.log_prefixes(tree.point_scores, trie.num_nodes).exp()
    for few in range(trie.num_nodes):
        first = tree.point_scores[:, : few + 1]
        torch.testing.assert_close(trie.log_prefixes(first, few).exp(), reached[:, :few])
    for node in range(trie.num_nodes):
        prefix = [int(trie.symbols[other]) for other in range(trie.num_nodes) if trie.ancestors[node, other]]
        behind = [leaf for leaf, path in enumerate(trie.paths.tolist()) if path[: len(prefix)] == prefix]
        torch.testing.assert_close(reached[:, node].double(), scores[:, behind].exp().sum(dim=1), rtol=1e-5, atol=1e-7)


def test_the_director_learns_nothing_of_gold() -> None:
    # Gold moves L_D through the truth it is compared with alone: what the Director says is the same for any gold.
    method = correction(LABEL).eval()
    with torch.no_grad():
        method.director.mlp.output.weight.normal_()
    said: list[Tensor] = []
    for values in (VALUES["label"], VALUES["label"][::-1]):
        batch = batch_for(method, prompts_of(method.backbone), values)
        said.append(method.told(*method._read_and_scored(batch.prompt, batch.prompt_mask)))
        losses = method(batch)
        torch.testing.assert_close(losses["director_loss"], method.head_loss(said[-1], batch.truth).mean())
    assert torch.equal(said[0], said[1])


@pytest.mark.parametrize("adds", [True, False])
def test_the_director_reads_the_expectation_of_the_states(adds: bool) -> None:
    # Against enumeration in float64: each target written by itself, its states weighted by its probability.
    method = correction(NUMBER, adds=adds).eval()
    trie = method.writer.trie_of(0)
    assert trie is not None
    torch.nn.init.zeros_(method.director.attention.query.weight)
    torch.nn.init.normal_(method.director.mlp.output.weight)
    batch = batch_for(method, prompts_of(method.backbone)[:2], VALUES["number"][:2])
    memory, tree = method._read_and_scored(batch.prompt, batch.prompt_mask)
    shares = tree.log_probabilities.double().softmax(dim=1)
    total, weight = torch.zeros(2, memory.state.shape[1], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for leaf in range(len(trie.values)):
        on_the_way = trie.ancestors[trie.points[leaf, -1] - 1]  # each leaf is behind a node here
        nodes = on_the_way[: method.num_read].nonzero().squeeze(-1)
        symbols = torch.stack([method.codec.symbols[trie.symbols[node]] for node in nodes]).expand(2, -1)
        alone = method.backbone.write(memory, symbols, torch.ones_like(symbols).bool()).states[:, 1:].double()
        total += shares[:, leaf, None] * alone.sum(dim=1)
        weight += shares[:, leaf] * len(nodes)
    expected = method.director.mlp(torch.cat([memory.state.double(), total / weight[:, None]], dim=1).float())
    if adds:
        numbers = (trie.numbers - method.fields[0].scale.mean) / method.fields[0].scale.deviation
        expected = expected + (shares @ numbers[:, None]).float()
    torch.testing.assert_close(method.told(memory, tree), expected, rtol=1e-4, atol=1e-4)


def test_where_one_token_decides_the_director_reads_the_prompts_last_state() -> None:
    method = correction(KINDS["one token"][0], adds=False).eval()
    batch = batch_for(method, prompts_of(method.backbone), KINDS["one token"][1])
    memory, tree = method._read_and_scored(batch.prompt, batch.prompt_mask)
    assert tree.states.shape[1] == 0
    assert torch.equal(method.told(memory, tree), method.director.mlp(memory.state))


def test_a_label_whose_tail_gives_it_away_helps_no_director() -> None:
    # After "good" the tail decides: were gold fed, its state would name the label. Nothing that is read depends on it.
    told = []
    for gold in ("y", "z"):  # "very good", "good grief"
        method = correction(LABEL, adds=False).eval()
        batch = batch_for(method, prompts_of(method.backbone), [gold] * 5)
        told.append(method.told(*method._read_and_scored(batch.prompt, batch.prompt_mask)))
    assert torch.equal(*told)


@pytest.mark.parametrize("form", ["correction", "expectation"])
@pytest.mark.parametrize(("target", "kind"), [("stars", "number"), ("mood", "label")])
def test_fit_save_load_predict_is_equal_to_the_bit(tmp_path: Path, target: str, kind: str, form: str) -> None:
    tokenizer = byte_level_tokenizer()
    base = save_model(tmp_path / "base", tiny_model("llama", len(tokenizer)), tokenizer)
    settings: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 3, "quiet": True, "device": "cpu"}
    model = predgen.fit(reviews(40), target, backbone=base, director_form=form, **settings)
    assert isinstance(model.method, ExactPredGen)
    assert model.method.adds_writer == (form == "correction")
    model.save(tmp_path / "model")
    again = predgen.load(tmp_path / "model", device="cpu")
    rows = reviews(15, seed=3)
    for options in ({}, {"std": True} if kind == "number" else {"probabilities": True}):
        pd.testing.assert_frame_equal(model.predict(rows, **options), again.predict(rows, **options), check_exact=True)
    trained = [name for name, one in model.method.director.named_parameters() if float(one.detach().abs().sum()) > 0]
    assert "mlp.output.weight" in trained


@pytest.mark.parametrize("source", ["writer", "mean", "stack"])
def test_answers_from_elsewhere_are_saved_too(tmp_path: Path, source: str) -> None:
    tokenizer = byte_level_tokenizer()
    base = save_model(tmp_path / "base", tiny_model("llama", len(tokenizer)), tokenizer)
    settings: dict[str, Any] = {"inputs": ["review"], "batch_size": 8, "max_steps": 6, "quiet": True, "device": "cpu"}
    settings |= {"director_form": "correction", "predict_from": source, "head_learning_rate": 0.1}
    model = predgen.fit(reviews(40), "stars", backbone=base, **settings)
    [mix] = model.contents.answering.mixes
    assert mix.writer != 0
    model.save(tmp_path / "model")
    again = predgen.load(tmp_path / "model", device="cpu")
    assert again.contents.answering.mixes == (mix,)
    rows = reviews(15, seed=3)
    pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)


def test_it_is_refused_where_not_all_values_can_be_scored(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    reviews(30).to_csv(table, index=False)
    said = refused(
        "fit", table, "--target", "mood,stars", "--out", tmp_path / "out", "--set", "director_form=correction"
    )
    assert "Expected one field, few enough of whose values" in said


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("full", [False, True])
def test_a_director_of_the_first_prefixes_learns_as_if_all_targets_were_written(shape: str, full: bool) -> None:
    target, values = Number(0.0, 9.99, decimals=2), [0.01, 5.0, 3.14, 9.99, 7.5]
    found = []
    for scores_all in (False, True):
        torch.manual_seed(0)
        method = correction(target, full=full, shape=shape, adds=False)
        num_nodes = method._trie.num_nodes
        assert num_nodes > 100
        assert 0 < method.num_read <= MOST_READ
        assert not method.scores_all
        method.scores_all = scores_all
        batch = batch_for(method, prompts_of(method.backbone), values)
        losses = method(batch)
        losses["loss"].backward()
        gradients = [one.grad for one in method.parameters() if one.grad is not None]
        assert any(bool(one.abs().sum() > 0) for one in gradients)
        found.append(({name: one.detach() for name, one in losses.items()}, gradients))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_the_first_prefixes_are_whole_levels() -> None:
    trie = correction(Number(0.0, 9.99, decimals=2), adds=False)._trie
    depths = trie.depths.tolist()
    assert depths == sorted(depths)
    for most in (0, 1, 10, 16, 25, 10**6):
        number = trie.num_within(most)
        assert number == depths.index(2) or number <= most  # one level at least
        assert number == len(depths) or depths[number] > depths[number - 1]
    assert correction(KINDS["one token"][0], adds=False)._trie.num_within(5) == 0
