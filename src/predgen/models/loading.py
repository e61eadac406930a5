"""An artifact becomes a model again: where it runs, and where its answers come from."""

from dataclasses import replace
from pathlib import Path

from predgen.backbones.devices import choose_device
from predgen.errors import ConfigError
from predgen.methods import PredGen
from predgen.models.artifact import load_artifact
from predgen.models.hub import find_artifact
from predgen.models.model import Model
from predgen.models.random_states import random_states_kept
from predgen.models.thresholds import without_threshold
from predgen.names import ANSWER_SOURCES
from predgen.warning_kinds import UntunedThresholdsWarning, warn


@random_states_kept()
def load(
    path: str | Path,
    *,
    revision: str | None = None,
    backbone: str | Path | None = None,
    device: str = "auto",
    predict_from: str | None = None,
    threshold: bool = True,
    trust_remote_code: bool = False,
) -> Model:
    """Returns the model that an artifact holds.

    Args:
        path: the artifact's directory, or its name on the hub, such as `org/name`, where no directory of that name is
            here. The hub's files go to its usual cache; `Model.origin` says the commit.
        revision: of the hub: a branch, a tag or a commit; the main branch if not given.
        backbone: where its base model is now, if it has moved; the hash of its files must be that of training. If not
            given, a path that holds nothing any more is looked for under the same name in the artifact and beside it.
        device: `auto`, `cpu`, `cuda` or `mps`.
        predict_from: `director`, `writer`, `mean`, or `stack` if it was fitted; what it was fitted with if not given. A
            calibration holds for the answers that it was made of, and is left out with others.
        threshold: answer one of two labels from the threshold on that was chosen for it, if one was; False answers the
            likeliest one.
        trust_remote_code: run code from the repository of its base model, if it was fitted so.

    Raises:
        ArtifactError: it is missing, damaged, of a newer format, or of another base model; the hub does not give it.
        ConfigError: it cannot answer from there, or has no revision as it is not on the hub.
        UnknownNameError: there is no such device or source.
    """
    where = choose_device(device)
    if predict_from is not None:
        ANSWER_SOURCES.check(predict_from)
    place = find_artifact(path, revision)
    method, contents = load_artifact(
        place.folder,
        backbone=None if backbone is None else str(backbone),
        device=device,
        trust_remote_code=trust_remote_code,
    )
    if method.backbone.is_placed:  # the rest goes where its first layer is
        where = next(method.backbone.model.parameters()).device
    if predict_from is not None:
        if not isinstance(method, PredGen):
            raise ConfigError(
                f"Expected a model of the method predgen to predict from its {predict_from}, found one of the method "
                f"{contents.config.model.method}. Leave predict_from out."
            )
        if predict_from != contents.config.model.predict_from:
            if predict_from == "stack":
                raise ConfigError(
                    f"Expected a model whose stack was fitted, found '{path}', fitted without one. Fit it with "
                    "--predict-from stack."
                )
            if any(threshold is not None for threshold in contents.answering.thresholds):
                warn(
                    UntunedThresholdsWarning(
                        "The thresholds of labels were tuned for the answers of the "
                        f"{contents.config.model.predict_from}; those of the {predict_from} are one half. Fit with "
                        f"--predict-from {predict_from} to tune them."
                    )
                )
            # From here on it is a model that answers from there; what was promised was of the other answers.
            config = contents.config
            model = config.model.model_copy(update={"predict_from": predict_from})
            contents = replace(
                contents,
                config=config.model_copy(update={"model": model}),
                answering=contents.answering.predicting_from(predict_from),
                calibrations={},
            )
            threshold = False
    if not threshold:
        contents = without_threshold(contents)
    return Model(method.to(where), contents, place.origin)
