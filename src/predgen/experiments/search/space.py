"""What is searched: settings with the ranges or the choices that trials draw from."""

from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from yaml import YAMLError

from predgen.adapters import TUNED_HEAD_LEARNING_RATE
from predgen.config import SECTIONS, RunConfig, parse_yaml, section_of
from predgen.errors import ConfigError, PredGenError
from predgen.experiments.tuning import SPAN, own_rates
from predgen.models.building import check_method
from predgen.models.forms import with_form
from predgen.names import DIRECTOR_FORMS, JOINS, METHODS, POOLINGS, READINGS
from predgen.targets.record import Target

# What is searched if nothing is named; what does not apply to the method is left out.
DEFAULT_SEARCH = ("learning_rate", "head_learning_rate", "lora_rank", "epochs")
CHOICES: dict[str, Sequence[Any]] = {
    "model.method": tuple(METHODS),
    "model.director_form": tuple(DIRECTOR_FORMS),
    "model.director": tuple(READINGS),
    "model.pooling": tuple(name for name in POOLINGS if name != "auto"),
    "model.lora_rank": (4, 8, 16, 32),
    "train.loss": tuple(JOINS),
    "train.batch_size": (8, 16, 32),
}
# Trials with other values of these would not be comparable, or would not differ.
FIXED = (
    "model.backbone",
    "model.revision",
    "model.trust_remote_code",
    "train.device",
    "train.metric",
    "train.report_to",
    "train.seed",
    "train.state_cache",
)
# From the default divided by the first to the default times the second.
SPANS = {"train.epochs": (3.0, 2.0), "train.weight_decay": (10.0, 10.0)}
WRITER_WEIGHTS = FloatDistribution(0.01, 1.0, log=True)
# Ends at least this far apart are searched on a logarithmic scale.
WIDE = 10.0

Space = dict[str, BaseDistribution]


def space_of(config: RunConfig, search: Sequence[str] | Mapping[str, Any]) -> Space:
    """Returns the distribution of each searched setting, under the setting's whole name.

    Args:
        config: the run's settings; ranges lie around its values.
        search: names of settings; or a mapping from names to a range `(low, high)`, a list of choices, or None for the
            range of the table. A name may carry it as text: `learning_rate=1e-4..1e-2`, `lora_rank=4|8|16`.

    Raises:
        ConfigError: there is nothing to search, a setting is named twice or has no range of its own, or a value is not
            allowed.
        UnknownNameError: no setting has the name.
    """
    wanted: dict[str, Any] = {}
    for entry, given in search.items() if isinstance(search, Mapping) else [(entry, None) for entry in search]:
        name, separator, text = entry.partition("=")
        key = ".".join(section_of(name.strip()))
        if key in wanted:
            raise ConfigError(f"Expected each setting once in the search, found '{name}' twice. Leave one out.")
        wanted[key] = _read(entry, text) if separator else given
    asked = isinstance(search, Mapping) or tuple(search) != DEFAULT_SEARCH
    space = {}
    for key, given in wanted.items():
        if key.startswith("data.") or key in FIXED:
            raise ConfigError(
                f"Expected settings of the model and of its training to search, found '{key}', which all trials share. "
                "Leave it out, and set it for all of them."
            )
        if key == "train.epochs" and config.train.max_steps is not None and given is None:
            if asked:
                raise ConfigError("Expected no max_steps where epochs are searched, found both. Leave one out.")
        elif asked or _may_apply(config, key, wanted):
            space[key] = _distribution(config, key, given, searches_method="model.method" in wanted)
    if not space:
        raise ConfigError(
            f"Expected settings to search, found none that apply to the method {config.model.method} with "
            f"{config.model.peft}. Name some, such as --search learning_rate,epochs."
        )
    _check_values(config, space)
    return space


def choices_that_go(config: RunConfig, space: Space, target: Target) -> Space:
    """Returns the space without the choices that do not go together with the target.

    Args:
        config: the run's settings.
        space: what is searched.
        target: what is predicted.

    Raises:
        ConfigError: no choice of a setting is left.
    """
    kept = dict(space)
    for key, distribution in space.items():
        if not isinstance(distribution, CategoricalDistribution):
            continue
        of_methods = space.get("model.method")
        methods = of_methods.choices if isinstance(of_methods, CategoricalDistribution) else (config.model.method,)
        going, faults = [], []
        for value in distribution.choices:
            # A choice goes if some searched method takes it; those of one method alone are tried with that one.
            trials = [{key: value} if key == "model.method" else {"model.method": one, key: value} for one in methods]
            of_it = [_fault(config, trial, target) for trial in trials if applies(key, trial, config)]
            if not of_it or None in of_it:
                going.append(value)
            else:
                faults.append(next(fault for fault in of_it if fault is not None))
        if not going:
            raise faults[0]
        kept[key] = CategoricalDistribution(going)
    return kept


def drawn(trial: Trial, space: Space, config: RunConfig) -> dict[str, Any]:
    """Returns the settings that a trial tries; those that its method does not have are not drawn.

    Args:
        trial: Optuna's, which draws them.
        space: what is searched.
        config: the run's settings.
    """
    settings: dict[str, Any] = {}
    for key in sorted(space, key=lambda key: key != "model.method"):  # the others depend on it
        if applies(key, settings, config):
            settings[key] = _draw(trial, key, space[key])
    return settings


def _draw(trial: Trial, key: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution():
            return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)
        case IntDistribution():
            return trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log)
        case CategoricalDistribution():
            return trial.suggest_categorical(key, distribution.choices)
    raise TypeError(distribution)


def defaults_in(space: Space, config: RunConfig, target: Target) -> dict[str, Any]:
    """Returns the values that the run has if nothing is searched, as far as they lie in the space.

    Args:
        space: what is searched.
        config: the run's settings.
        target: what is predicted.
    """
    values = {key: _value(with_form(config, target), key) for key in space} | own_rates(config)
    return {key: values[key] for key, distribution in space.items() if _holds(distribution, values[key])}


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return value is not None and distribution.low <= value <= distribution.high


def applies(key: str, settings: Mapping[str, Any], config: RunConfig) -> bool:
    """Returns whether a setting changes anything beside others.

    Args:
        key: the setting's whole name.
        settings: what a trial tries.
        config: the settings that it does not change.
    """
    method = settings.get("model.method", config.model.method)
    peft = settings.get("model.peft", config.model.peft)
    rules: dict[str, Callable[[], bool]] = {
        "train.head_learning_rate": lambda: METHODS[method].has_heads,
        "train.learning_rate": lambda: peft != "frozen",
        "model.lora_rank": lambda: peft in ("lora", "dora", "adalora"),
        "model.pooling": lambda: method == "predictor",
        "model.predictor_head": lambda: method == "predictor",
        "model.director_form": lambda: method == "predgen",
        "model.director": lambda: method == "predgen",
        "model.predict_from": lambda: method == "predgen",
        "train.loss": lambda: method == "predgen",
        "train.writer_weight": lambda: method == "predgen",
        "train.writer_loss": lambda: METHODS[method].writes,
    }
    return rules.get(key, lambda: True)()


def _may_apply(config: RunConfig, key: str, wanted: Mapping[str, Any]) -> bool:
    return "model.method" in wanted or applies(key, {}, config)


def _fault(config: RunConfig, settings: Mapping[str, Any], target: Target) -> ConfigError | None:
    try:
        check_method(config.changed(**settings), target)
    except ConfigError as error:
        return error
    return None


def _value(config: RunConfig, key: str) -> Any:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def _read(entry: str, text: str) -> Any:
    """Returns a range or choices that were given as text."""
    low, dots, high = text.partition("..")
    if dots:
        try:
            return float(low), float(high)
        except ValueError:
            raise ConfigError(f"Expected a range such as 1e-4..1e-2 in the search, found '{entry}'.") from None
    try:
        return [parse_yaml(one) for one in text.split("|")]
    except YAMLError:
        raise ConfigError(
            f"Expected a range LOW..HIGH or choices A|B after '=' in the search, found '{entry}'."
        ) from None


def _distribution(config: RunConfig, key: str, given: Any, *, searches_method: bool) -> BaseDistribution:
    if given is None:
        return _own_distribution(config, key, searches_method=searches_method)
    if isinstance(given, tuple):
        if len(given) != 2 or not all(isinstance(end, int | float) for end in given) or not given[0] < given[1]:
            raise ConfigError(f"Expected a range (low, high) with low < high for '{key}', found {given}.")
        return _range(key, *map(float, given))
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise ConfigError(
            f"Expected a range (low, high), a list of choices or None for '{key}', found {given!r}. Mend it."
        )
    for value in given:
        if value is not None and not isinstance(value, str | int | float | bool):
            raise ConfigError(f"Expected choices of '{key}' that are texts or numbers, found {value!r}. Mend it.")
    return CategoricalDistribution(list(given))


def _own_distribution(config: RunConfig, key: str, *, searches_method: bool) -> BaseDistribution:
    """Returns the range of a setting for which none is given."""
    if key == "train.writer_weight":
        return WRITER_WEIGHTS
    if key in CHOICES:
        return CategoricalDistribution(CHOICES[key])
    if key in ("train.learning_rate", "train.head_learning_rate"):
        configs = [config.changed(**{"model.method": name}) for name in METHODS] if searches_method else [config]
        rates = [found[key] for found in map(own_rates, configs) if key in found] or [TUNED_HEAD_LEARNING_RATE]
        return FloatDistribution(min(rates) / SPAN, max(rates) * SPAN, log=True)
    if key in SPANS:
        down, up = SPANS[key]
        middle = _value(config, key)
        if middle > 0:
            return FloatDistribution(middle / down, middle * up, log=True)
    name = key.partition(".")[2]
    raise ConfigError(
        f"Expected what to search '{name}' in, found none. Give a range or choices: --search {name}=LOW..HIGH or "
        f"{name}=A|B."
    )


def _range(key: str, low: float, high: float) -> BaseDistribution:
    log = low > 0 and high / low >= WIDE
    section, _, name = key.partition(".")
    if _takes_whole_numbers(SECTIONS[section].model_fields[name].annotation):
        if low != int(low) or high != int(high):
            raise ConfigError(f"Expected whole ends of a range of '{key}', found {low:g} and {high:g}. Mend them.")
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _takes_whole_numbers(annotation: Any) -> bool:
    """Returns whether a setting's type has whole numbers and no others."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return int in kinds and float not in kinds


def _check_values(config: RunConfig, space: Space) -> None:
    """Refuses values that a setting does not take, before anything is trained.

    Raises:
        ConfigError: with the setting and the value.
    """
    for key, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            values: Sequence[Any] = distribution.choices
        elif isinstance(distribution, FloatDistribution | IntDistribution):
            values = (distribution.low, distribution.high)
        else:
            raise TypeError(distribution)
        if key == "model.method" and "auto" in values:
            raise ConfigError("Expected methods to search among, found 'auto'. Name them: method=predictor|predgen.")
        for value in values:
            try:
                config.changed(**{key: value})
            except PredGenError as error:
                raise type(error)(f"Expected values to search that the settings take, found: {error}") from error
