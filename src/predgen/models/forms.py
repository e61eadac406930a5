"""What predgen is by default: the settings of its form that depend on what is predicted."""

from predgen.codec.kinds import is_enumerable
from predgen.config import SECTIONS, RunConfig
from predgen.targets.record import Target

# Settings that the form `states` alone has: who gives one asks for that form.
OF_STATES = (
    "model.director",
    "train.schedule",
    "train.sampling",
    "train.sampling_start",
    "train.sampling_end",
    "train.sampling_fraction",
    "train.sampling_steps",
    "train.sampling_choice",
    "train.sampling_unit",
    "train.director_share",
    "train.passes",
)
# What a form leaves unsaid. The weight of L_W was chosen on labels and on a number (docs/developers/log.md).
EXACT = {"model.predict_from": "stack", "train.loss": "sum", "train.writer_weight": 0.1}
UNSAID: dict[str, dict[str, object]] = {
    "states": {"model.predict_from": "director", "train.loss": "wdal_stable", "train.writer_weight": 1.0},
    "states+start": {**EXACT, "train.director_share": 1.0},
    "expectation": EXACT,
    "correction": EXACT,
}


def with_form(config: RunConfig, target: Target) -> RunConfig:
    """Returns the settings of a run of predgen with its form, and with what that leaves unsaid; others as they are.

    Args:
        config: the settings.
        target: what is predicted.
    """
    if config.model.method != "predgen":
        return config
    form = config.model.director_form or default_form(config, target)
    unsaid = UNSAID[form]
    missing = {name: value for name, value in unsaid.items() if _value(config, name) is None}
    return config.changed(**{"model.director_form": form}, **missing)


def default_form(config: RunConfig, target: Target) -> str:
    """Returns the form of a run that names none."""
    fields = target.fields.values()
    asks_for_states = any(_value(config, name) != _default(name) for name in OF_STATES)
    can_score_all = len(target.fields) == 1 and all(map(is_enumerable, fields)) and config.model.decoding != "free"
    return "expectation" if can_score_all and not asks_for_states else "states"


def _value(config: RunConfig, name: str) -> object:
    section, _, setting = name.partition(".")
    value: object = getattr(getattr(config, section), setting)
    return value


def _default(name: str) -> object:
    section, _, setting = name.partition(".")
    default: object = SECTIONS[section].model_fields[setting].default
    return default
