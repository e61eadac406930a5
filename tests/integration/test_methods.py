"""The methods: losses and gradients equal slow references, answers keep their order, every trained part moves."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from predgen.methods import Method, PredGen, Sampling
from predgen.methods.buckets import answer_all
from predgen.methods.losses import TokenLoss
from predgen.writing.sampling import Draws
from tests.helpers.shapes import (
    FAMILIES,
    LABEL,
    NUMBER,
    TARGETS,
    VALUES,
    all_paths,
    batch_for,
    checkpoint_activations,
    may_follow,
    path_of,
    ragged_prompts,
    run_alone,
    tiny_backbone,
    tiny_method,
    writer_loss_alone,
)

METHODS = ("predictor", "generator", "predgen")
TOLERANCE = 1e-4


def gradients(method: Method, loss: Tensor) -> dict[str, Tensor]:
    """Returns the gradient of every parameter, zero where it gets none."""
    method.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in method.named_parameters()
    }


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    # Some gradients are zero in exact arithmetic; they are compared on the scale of the others.
    floor = 1e-3 * max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in expected.items():
        difference = float((found[name] - gradient).norm()) / max(float(gradient.norm()), floor)
        assert difference < TOLERANCE, f"{name}: {difference:.2g}"


def prompts_for(method: Method, seed: int = 0) -> list[list[int]]:
    return ragged_prompts(method.backbone.model.config.vocab_size, seed=seed)


def reference_losses(method: Method, prompts: list[list[int]], values: list[Any], truth: Tensor) -> dict[str, Tensor]:
    """Returns a method's losses from one unpadded forward for each row, without automaton tables or a cache."""
    model = method.backbone.model
    paths = all_paths(method.backbone, method.target)
    writer, outputs = [], []
    for prompt, value in zip(prompts, values, strict=True):
        gold = path_of(paths, value)
        writer.append(writer_loss_alone(model, prompt, gold, paths))
        if isinstance(method, PredGen):
            states, _ = run_alone(model, prompt, gold)
            everything = torch.ones(1, len(gold), dtype=torch.bool)
            outputs.append(method.director(states[1:].unsqueeze(0), everything))
    loss_writer = torch.stack(writer).mean()
    if not isinstance(method, PredGen):
        return {"loss": loss_writer, "writer_loss": loss_writer}
    predicted = torch.cat(outputs)
    if method.target is LABEL:
        loss_director = nn.functional.cross_entropy(predicted, truth[:, 0].long())
    else:
        loss_director = (predicted - truth).square().mean()
    loss = method.join(loss_writer, loss_director)
    return {"loss": loss, "writer_loss": loss_writer, "director_loss": loss_director}


@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("name", ["generator", "predgen"])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_equal_the_plain_road_and_unpadded_rows(family: str, name: str, kind: str) -> None:
    values = VALUES[kind]
    cached, plain = (tiny_method(name, tiny_backbone(family, plain=plain), TARGETS[kind]) for plain in (False, True))
    prompts = prompts_for(cached)
    batch = batch_for(cached, prompts, values)
    expected = reference_losses(cached, prompts, values, batch.truth)
    expected_gradients = gradients(cached, expected["loss"])
    for method in (cached, plain):
        losses = method(batch)
        assert losses.keys() == expected.keys()
        for key, loss in losses.items():
            assert float(loss.detach()) == pytest.approx(float(expected[key].detach()), rel=TOLERANCE), key
        assert_same_gradients(gradients(method, losses["loss"]), expected_gradients)
    assert sum(float(gradient.norm()) > 0 for gradient in expected_gradients.values()) > 0.9 * len(expected_gradients)


@pytest.mark.parametrize("loss", ["wdal_stable", "wdal", "wdal_smooth", "sum", "uncertainty"])
@pytest.mark.parametrize("director", ["mean", "last", "attention"])
def test_every_director_and_loss_equals_unpadded_rows(director: str, loss: str) -> None:
    method = tiny_method("predgen", tiny_backbone(), NUMBER, head=director, loss=loss)
    prompts = prompts_for(method)
    batch = batch_for(method, prompts, VALUES["number"])
    expected = reference_losses(method, prompts, VALUES["number"], batch.truth)
    expected_gradients = gradients(method, expected["loss"])
    losses = method(batch)
    assert float(losses["loss"].detach()) == pytest.approx(float(expected["loss"].detach()), rel=TOLERANCE)
    assert_same_gradients(gradients(method, losses["loss"]), expected_gradients)


@pytest.mark.parametrize("name", ["generator", "predgen"])
def test_the_expected_value_loss_equals_every_number_written_alone(name: str) -> None:
    settings = {"loss": "sum"} if name == "predgen" else {}
    method = tiny_method(name, tiny_backbone(), NUMBER, token_loss=TokenLoss("expected_value"), **settings)
    prompts = prompts_for(method)
    batch = batch_for(method, prompts, VALUES["number"])
    paths = all_paths(method.backbone, NUMBER)
    errors = []
    for prompt, truth in zip(prompts, batch.truth, strict=True):
        scores = []
        for path in paths:
            logits = run_alone(method.backbone.model, prompt, path)[1]
            score = torch.zeros(())
            for position, token in enumerate(path):
                allowed = may_follow(paths, path[:position])
                score = score + logits[position, token] - torch.logsumexp(logits[position, allowed], dim=0)
            scores.append(score)
        numbers = torch.tensor(list(paths.values()))
        mean = (torch.stack(scores).exp() * numbers).sum()
        errors.append(((mean - method.fields[0].scale.mean) / method.fields[0].scale.deviation - truth) ** 2)
    expected = torch.stack(errors).mean()
    losses = method(batch)
    assert float(losses["writer_loss"].detach()) == pytest.approx(float(expected.detach()), rel=TOLERANCE)
    if name == "generator":
        assert_same_gradients(gradients(method, losses["loss"]), gradients(method, expected))


@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_full_vocabulary_writer_has_the_loss_of_hugging_face(family: str, kind: str) -> None:
    method = tiny_method("generator", tiny_backbone(family), TARGETS[kind], full=True)
    prompts = prompts_for(method)
    paths = all_paths(method.backbone, method.target)
    losses = []
    for prompt, value in zip(prompts, VALUES[kind], strict=True):
        gold = path_of(paths, value)
        labels = torch.tensor([[-100] * len(prompt) + gold])
        losses.append(method.backbone.model(input_ids=torch.tensor([prompt + gold]), labels=labels).loss)
    expected = torch.stack(losses).mean()
    expected_gradients = gradients(method, expected)
    found = method(batch_for(method, prompts, VALUES[kind]))["loss"]
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=TOLERANCE)
    assert_same_gradients(gradients(method, found), expected_gradients)


@pytest.mark.parametrize("pooling", ["last", "mean", "first"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_predictor_pools_unpadded_states(family: str, pooling: str) -> None:
    method = tiny_method("predictor", tiny_backbone(family), NUMBER, head=pooling)
    prompts = prompts_for(method)
    batch = batch_for(method, prompts, VALUES["number"])
    pooled = []
    for prompt in prompts:
        states = method.backbone.model(input_ids=torch.tensor([prompt]), output_hidden_states=True).hidden_states[-1][0]
        pooled.append({"last": states[-1], "mean": states.mean(dim=0), "first": states[0]}[pooling])
    expected = (method.head.mlp(torch.stack(pooled)) - batch.truth).square().mean()
    expected_gradients = gradients(method, expected)
    found = method(batch)["loss"]
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=TOLERANCE)
    assert_same_gradients(gradients(method, found), expected_gradients)


@pytest.mark.parametrize("passes", [1, 3, None])
@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_roads_are_one_with_own_tokens_too(family: str, kind: str, passes: int | None) -> None:
    found = []
    for plain in (False, True):
        method = tiny_method("predgen", tiny_backbone(family, plain=plain), TARGETS[kind], sampling=Sampling(passes))
        batch = batch_for(method, prompts_for(method), VALUES[kind])
        own = torch.rand(batch.gold.symbols.shape, generator=torch.Generator().manual_seed(3)) < 0.6
        losses = method(batch, draws=Draws(own))
        gold = method(batch)
        assert float(losses["director_loss"].detach()) != pytest.approx(float(gold["director_loss"].detach()))
        found.append((float(losses["loss"].detach()), gradients(method, losses["loss"])))
    (cached, cached_gradients), (plain_loss, plain_gradients) = found
    assert cached == pytest.approx(plain_loss, rel=TOLERANCE)
    assert_same_gradients(cached_gradients, plain_gradients)


@pytest.mark.parametrize("name", METHODS)
def test_gradient_checkpointing_gives_the_same_loss_and_gradients(name: str) -> None:
    usual = tiny_method(name, tiny_backbone(), NUMBER).train()
    batch = batch_for(usual, prompts_for(usual), VALUES["number"])
    expected = usual(batch)["loss"]
    expected_gradients = gradients(usual, expected)
    thrifty = tiny_method(name, tiny_backbone(), NUMBER).train()
    checkpoint_activations(thrifty.backbone.model)
    own = torch.zeros_like(batch.gold.mask)  # a sampling pass that keeps gold everywhere
    found = thrifty(batch, draws=Draws(own))["loss"]
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=TOLERANCE)
    assert_same_gradients(gradients(thrifty, found), expected_gradients)


def test_the_mean_over_parts_of_a_batch_is_the_loss_of_the_whole() -> None:
    method = tiny_method("predgen", tiny_backbone(), NUMBER, loss="sum")
    prompts, values = prompts_for(method), VALUES["number"]
    whole = method(batch_for(method, prompts, values))["loss"]
    parts = [method(batch_for(method, prompts[rows], values[rows]))["loss"] for rows in (slice(0, 2), slice(2, 5))]
    expected = (2 * float(parts[0].detach()) + 3 * float(parts[1].detach())) / 5
    assert float(whole.detach()) == pytest.approx(expected, rel=1e-5)


# ---- answers in order


@pytest.mark.parametrize("kind", ["number", "label"])
@pytest.mark.parametrize("name", METHODS)
def test_answers_keep_the_order_of_the_rows_whatever_the_batches(name: str, kind: str) -> None:
    method = tiny_method(name, tiny_backbone(), TARGETS[kind])
    lengths = [3, 11, 1, 7, 7, 2, 12, 5, 4]
    prompts = ragged_prompts(method.backbone.model.config.vocab_size, lengths, seed=4)
    one_by_one = [answer_all(method, [prompt], batch_size=1, probabilities=True) for prompt in prompts]
    assert len({part.values[0] for part in one_by_one}) > 1, "equal answers could not show a wrong order"
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(0)).tolist()
    for batch_size in (2, 4, 64):
        for rows in (list(range(len(prompts))), order):
            found = answer_all(method, [prompts[row] for row in rows], batch_size=batch_size, probabilities=True)
            assert found.written == [one_by_one[row].written[0] for row in rows]
            if kind == "label":
                assert found.values == [one_by_one[row].values[0] for row in rows]
                assert found.probabilities is not None
                expected = torch.cat([one_by_one[row].probabilities for row in rows])
                torch.testing.assert_close(found.probabilities, expected, atol=1e-5, rtol=0)
                assert torch.allclose(found.probabilities.sum(dim=1).double(), torch.ones(len(rows)).double())
            else:
                assert found.values == pytest.approx([one_by_one[row].values[0] for row in rows], abs=1e-5)
                assert found.probabilities is None
                assert (found.deviations is None) == (name == "predictor")
                if found.deviations is not None:
                    torch.testing.assert_close(
                        found.deviations,
                        torch.cat([one_by_one[row].deviations for row in rows]),
                        atol=1e-5,
                        rtol=1e-5,
                    )


@pytest.mark.parametrize("name", METHODS)
def test_no_prompts_give_no_answers(name: str) -> None:
    found = answer_all(tiny_method(name, tiny_backbone(), LABEL), [], batch_size=4, probabilities=True)
    assert (found.values, found.written, found.probabilities) == ([], [], None)


@pytest.mark.parametrize("name", METHODS)
def test_answers_use_no_dropout_and_leave_training_as_it_was(name: str) -> None:
    backbone = tiny_backbone("gpt2", embd_pdrop=0.5, resid_pdrop=0.5)
    method = tiny_method(name, backbone, NUMBER).train()
    method.backbone.model.transformer.h[0].eval()
    before = {key: part.training for key, part in method.named_modules()}
    first, second = (answer_all(method, prompts_for(method), batch_size=8) for _ in range(2))
    assert first.values == second.values
    assert {key: part.training for key, part in method.named_modules()} == before


def test_a_number_is_scaled_back_and_kept_in_its_range() -> None:
    method = tiny_method("predictor", tiny_backbone(), NUMBER)
    with torch.no_grad():
        method.head.mlp.output.weight.zero_()
        method.head.mlp.output.bias.fill_(0.5)
    assert answer_all(method, [[1, 2]], batch_size=1).values == [pytest.approx(0.5 * 3.0 + 2.0)]
    with torch.no_grad():
        method.head.mlp.output.bias.fill_(1e6)
    assert answer_all(method, [[1, 2]], batch_size=1).values == [NUMBER.high]


def test_the_director_answers_from_the_states_of_the_written_text() -> None:
    method = tiny_method("predgen", tiny_backbone(), NUMBER)
    prompts = prompts_for(method)
    answers = answer_all(method, prompts, batch_size=8)
    paths = all_paths(method.backbone, NUMBER)
    for prompt, text, value in zip(prompts, answers.written, answers.values, strict=True):
        states, _ = run_alone(method.backbone.model, prompt, path_of(paths, float(text or "nan")))
        output = method.director(states[1:].unsqueeze(0), torch.ones(1, len(states) - 1, dtype=torch.bool))
        expected = NUMBER.clip(float(output.detach()) * method.fields[0].scale.deviation + method.fields[0].scale.mean)
        assert value == pytest.approx(expected, abs=1e-4)
