"""Which cells a reproduction has: presets, and what a user changes of them."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from predgen.catalogue import tasks as task_names
from predgen.config import merged_layers
from predgen.errors import ConfigError, unknown_name
from predgen.names import METHODS, PEFT_METHODS

# The updates; training all weights is no choice of the paper.
PEFTS = tuple(name for name, peft in PEFT_METHODS.items() if peft.rank_setting)
# Settings that are axes of the grid, and how they are named there.
GRID_SETTINGS = {
    "model.backbone": "--backbones",
    "model.method": "--methods",
    "model.peft": "--pefts",
    "train.seed": "--seeds",
    "data.task": "--tasks",
    "data.data": "--data",
    "data.target": "--tasks",
}


@dataclass(frozen=True)
class Cell:
    """One model to be fitted and tested.

    Attributes:
        task: a name of the catalogue.
        method: predictor, generator or predgen.
        peft: how the backbone is trained.
        backbone: a hub id, a folder, or a model of the package.
        seed: of everything random.
    """

    task: str
    method: str
    peft: str
    backbone: str
    seed: int

    @property
    def name(self) -> str:
        """A file name, unique to the cell."""
        readable = "".join(letter if letter.isalnum() else "-" for letter in self.backbone)
        backbone = f"{readable}-{hashlib.sha256(self.backbone.encode()).hexdigest()[:6]}"
        return f"{backbone}-{self.peft}-{self.task}-{self.method}-seed{self.seed}"


@dataclass(frozen=True)
class Preset:
    """A grid and its settings.

    Attributes:
        backbones: which models.
        methods: which methods.
        pefts: how the backbones are trained, on `peft_tasks`.
        peft_tasks: the tasks that have all of `pefts`; the others have the first.
        tasks: which tasks.
        seeds: the training seeds.
        settings: of `predgen.config`, for all cells.
        peft_settings: the same for the cells of one PEFT method.
        given: the same, above all others.
    """

    backbones: tuple[str, ...]
    methods: tuple[str, ...] = tuple(METHODS)
    pefts: tuple[str, ...] = PEFTS
    peft_tasks: tuple[str, ...] = ()
    tasks: tuple[str, ...] = field(default_factory=lambda: tuple(task_names()))
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    peft_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """Returns all cells, those of a task together, the methods next to each other."""
        cells = []
        for backbone, task in itertools.product(self.backbones, self.tasks):
            pefts = self.pefts if task in self.peft_tasks else self.pefts[:1]
            for peft, seed, method in itertools.product(pefts, self.seeds, self.methods):
                cells.append(Cell(task, method, peft, backbone, seed))
        return cells

    def settings_of(self, cell: Cell) -> dict[str, Any]:
        """Returns the settings of a cell, without its task's."""
        return {
            **self.settings,
            **self.peft_settings.get(cell.peft, {}),
            **self.given,
            "model.backbone": cell.backbone,
            "model.method": cell.method,
            "model.peft": cell.peft,
            "train.seed": cell.seed,
        }

    def changed(
        self,
        *,
        backbones: Sequence[str] = (),
        methods: Sequence[str] = (),
        pefts: Sequence[str] = (),
        tasks: Sequence[str] = (),
        seeds: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> "Preset":
        """Returns the preset with the given axes instead of its own; named PEFT methods go over all tasks.

        Raises:
            ConfigError: something is named twice, a setting is one of the grid's own, or there are fewer than no seeds.
            UnknownNameError: a task, a method or a PEFT method is not known.
        """
        for what, names, known in (
            ("method", methods, METHODS),
            ("PEFT method", pefts, PEFT_METHODS),
            ("task", tasks, task_names()),
            ("backbone", backbones, None),
        ):
            for name in names:
                if known is not None and name not in known:
                    raise unknown_name(what, name, known)
            if len(set(names)) < len(names):
                raise ConfigError(f"Expected each {what} once, found {', '.join(names)}. Leave one out.")
        if seeds < 0:
            raise ConfigError(f"Expected a number of seeds, found {seeds}. Name 1 or more, or leave --seeds out.")
        given = merged_layers(settings or {})
        for key, option in GRID_SETTINGS.items():
            if key in given:
                raise ConfigError(f"Expected no setting '{key}', which the grid has many of. Use {option}.")
        chosen = tuple(tasks) or self.tasks
        return replace(
            self,
            backbones=tuple(backbones) or self.backbones,
            methods=tuple(methods) or self.methods,
            pefts=tuple(pefts) or self.pefts,
            peft_tasks=chosen if pefts else self.peft_tasks,
            tasks=chosen,
            seeds=tuple(range(seeds)) if seeds else self.seeds,
            given=given,
        )


def presets() -> dict[str, Preset]:
    """Returns the presets by name.

    `small` runs on two cores. `paper` has the models, the PEFT methods and, as far as its published notebooks state
    them, the hyperparameters of the paper: learning rate 2e-3 with RoCoFT over 3 columns, cosine, 200 steps of warm-up,
    batches of 20, and p from 0 to 1 over 500 steps, drawn for the whole batch. `default` is the same grid with the
    settings of this package.
    """
    default = Preset(
        backbones=("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf", "meta-llama/Meta-Llama-3-8B"),
        peft_tasks=tuple(task_names()),
        seeds=(0, 1, 2),
        settings={"model.dtype": "bfloat16", "train.precision": "bf16"},
    )
    stated = {
        "model.director_form": "states",
        "train.warmup_steps": 200,
        "train.batch_size": 20,
        "train.schedule": "linear",
        "train.sampling_start": 0.0,
        "train.sampling_end": 1.0,
        "train.sampling_steps": 500,
        "train.sampling_unit": "batch",
    }
    rocoft = {"train.learning_rate": 2e-3, "model.rocoft_axis": "columns", "model.rocoft_rank": 3}
    return {
        "small": Preset(
            backbones=("builtin:nano",),
            peft_tasks=("stsb", "sst2"),
            settings={"data.max_train_rows": 1000, "data.max_eval_rows": 500, "model.director_form": "states"},
        ),
        "default": default,
        "paper": replace(default, settings={**default.settings, **stated}, peft_settings={"rocoft": rocoft}),
    }
