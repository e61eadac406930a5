#!/usr/bin/env bash
# transformers 5.23.0: a Trainer that goes on from the last checkpoint of a run that had ended, as a job does that was
# killed while it copied its model, trains on. `max_steps` reached in the middle of an epoch: one step more than
# `max_steps`, with a learning rate beyond the schedule's end. Ended by `EarlyStoppingCallback`, its counter restored by
# `restore_callback_states_from_checkpoint=True`: on to the next evaluation. The checkpoint holds
# `should_training_stop: true`, and the Trainer restores it, but `on_train_begin` sets it back, and it is looked at again
# only after a step. A run that ended with an epoch takes none.
# Seen: 6 steps instead of 5; 8 instead of 6; 8 of 8.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate
cat > "$folder/seen.py" <<'PY'
import sys

import torch
import transformers
from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

transformers.logging.set_verbosity_error()
ROWS = [{"x": torch.tensor([float(row)]), "labels": torch.tensor([2.0 * row])} for row in range(8)]


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, labels):
        return {"loss": ((x * self.weight - labels) ** 2).mean()}


def steps(folder, *, max_steps, never_better=False, resume=None):
    """The steps of a run over 8 rows, two a batch: 4 an epoch; it is evaluated and saved each second one and at its end."""
    arguments = TrainingArguments(
        folder, max_steps=max_steps, per_device_train_batch_size=2, eval_strategy="steps", save_strategy="steps",
        eval_steps=2 if never_better else 1, save_steps=2 if never_better else 1, load_best_model_at_end=True,
        metric_for_best_model="eval_loss", greater_is_better=never_better, learning_rate=1e-2, report_to="none",
        restore_callback_states_from_checkpoint=True, use_cpu=True, disable_tqdm=True,
    )
    callbacks = [EarlyStoppingCallback(2)] if never_better else []
    trainer = Trainer(Line(), arguments, train_dataset=ROWS, eval_dataset=ROWS, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resume)
    return trainer.state.global_step


root = sys.argv[1]
print(f"transformers {transformers.__version__}")
for name, settings in {
    "max_steps in an epoch": {"max_steps": 5},
    "early stopping": {"max_steps": 20, "never_better": True},
    "max_steps at an epoch's end": {"max_steps": 8},
}.items():
    folder = f"{root}/{name}"
    whole = steps(folder, **settings)
    resumed = steps(folder, resume=f"{folder}/checkpoint-{whole}", **settings)
    print(f"{name}: {whole} steps; resumed after its end: {resumed}")
    assert (whole, resumed) == {5: (5, 6), 20: (6, 8), 8: (8, 8)}[settings["max_steps"]]
PY
"$folder/env/bin/python" "$folder/seen.py" "$folder/runs" 2>&1 | grep -v -e loss -e runtime
