"""director_form=states+start: H[0] beside one written target, which in training too the model writes by itself."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import predgen
from predgen.methods.poolings import PooledHead
from predgen.methods.predgen import PredGen
from predgen.writing.sampling import Draws
from tests.helpers.shapes import LABEL, NUMBER, VALUES, batch_for, tiny_method
from tests.helpers.tables import reviews
from tests.integration.test_cross_attending import prompts_of
from tests.integration.test_peft_methods import backbone_of

FAST: dict[str, Any] = {"inputs": "review", "quiet": True, "max_steps": 3, "batch_size": 8, "device": "cpu"}


@pytest.mark.parametrize("target", ["stars", "mood", ["mood", "stars"]], ids=str)
def test_fit_save_load_predict_is_equal_to_the_bit(tmp_path: Path, target: str | list[str]) -> None:
    out = tmp_path / "model"
    settings = {**FAST, "backbone": "builtin:nano", "director_form": "states+start"}
    model = predgen.fit(reviews(40), target, out=out, **settings)
    assert isinstance(model.method, PredGen)
    assert model.method.director.reads_start
    assert (model.config.train.director_share, model.config.train.loss) == (1.0, "sum")
    rows = reviews(15, seed=3)[["review"]]
    pd.testing.assert_frame_equal(predgen.load(out).predict(rows), model.predict(rows), check_exact=True)


@pytest.mark.parametrize(("target", "kind"), [(NUMBER, "number"), (LABEL, "label")])
def test_the_director_learns_from_what_it_reads_in_prediction(target: Any, kind: str) -> None:
    method = tiny_method("predgen", backbone_of("llama"), target)
    assert isinstance(method, PredGen)
    size, num_outputs = method.backbone.hidden_size, method.num_outputs
    method.director = PooledHead.of("attention", size, num_outputs, reads_start=True)
    batch = batch_for(method, prompts_of(method.backbone), VALUES[kind])
    everywhere = torch.ones(len(batch), dtype=torch.bool)
    seen = []
    method.director.register_forward_hook(lambda _, given, output: seen.append((given[2], output)))
    learned = method(batch, Draws(director_own=everywhere))["director_loss"]
    method.answer(batch.prompt, batch.prompt_mask)
    (start, outputs), (start_then, outputs_then) = seen
    torch.testing.assert_close(start, start_then)
    torch.testing.assert_close(outputs, outputs_then)
    torch.testing.assert_close(learned, method.head_loss(outputs_then, batch.truth).mean())
    # What is read of the start matters: its gradient is not zero.
    (gradient,) = torch.autograd.grad(learned, start)
    assert float(gradient.abs().sum()) > 0
