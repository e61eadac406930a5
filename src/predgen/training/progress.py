"""One line on the terminal while a method trains: step, L_W, L_D, p, the metric, the time left."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

SHOWN = {"writer_loss": "L_W", "director_loss": "L_D", "sampling_probability": "p"}


class TrainingProgress(TrainerCallback):  # type: ignore[misc]
    """Draws a progress bar on standard error.

    Args:
        metric: the metric of the free-running validation to show.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.values: dict[str, float] = {}
        self.progress: Progress | None = None
        self.task = TaskID(0)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the bar, from the step that a resumed run begins with."""
        if not state.is_world_process_zero:
            return
        self.progress = Progress(
            TextColumn("training"),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[values]}"),
            console=Console(stderr=True),
        )
        self.progress.start()
        self.task = self.progress.add_task("", total=state.max_steps, completed=state.global_step, values="")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Moves the bar."""
        if self.progress is not None:
            self.progress.update(self.task, completed=state.global_step)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Shows the newest figures."""
        logs = kwargs["logs"]
        for name, short in SHOWN.items():
            if name in logs:
                self.values[short] = logs[name]
        if "loss" in logs and not self.values.keys() & {"L_W", "L_D"}:  # a method of one loss
            self.values["loss"] = logs["loss"]
        if f"eval_{self.metric}" in logs:
            self.values[self.metric] = logs[f"eval_{self.metric}"]
        if self.progress is not None:
            text = "  ".join(f"{name} {value:.3f}" for name, value in self.values.items())
            self.progress.update(self.task, values=text)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves the bar as it is."""
        if self.progress is not None:
            self.progress.stop()
            self.progress = None
