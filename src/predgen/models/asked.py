"""The columns that a prediction is to have beside the answers: probabilities, spreads, intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from predgen.errors import ConfigError
from predgen.methods import PredGen
from predgen.models.abstention import abstaining_of
from predgen.models.answer_columns import ABSTAINED, WRITTEN_TOKENS, output_names
from predgen.targets.record import Target

if TYPE_CHECKING:
    from predgen.models.model import Model

InvalidPolicy = Literal["nan", "warn", "raise"]
# Quantiles of a number that a prediction may be asked for: percent steps, and a bound for what clients send.
MOST_QUANTILES = 100


@dataclass(frozen=True)
class Asked:
    """What a prediction is asked for; see `predgen.models.model.Model.predict`.

    Attributes:
        invalid: what to do where the written text is no value of the target.
        probabilities: also the probability of each label.
        std: also the standard deviation of the Writer's numbers.
        interval: also intervals and sets that hold the truth with this probability; None for none.
        marginal: let answers for a record's fields hold whatever the fields before them say.
        quantiles: also the quantiles of the Writer's numbers at these shares, each in (0, 1).
        abstain_risk: the largest share of answers that may be wrong; None answers all rows.
        abstain_delta: the chance that more are wrong.
        abstain_error: of a number, the largest error that is not wrong.
        written_tokens: also the tokens that were written, with the probability of each.
    """

    invalid: InvalidPolicy = "nan"
    probabilities: bool = False
    std: bool = False
    interval: float | None = None
    marginal: bool = False
    quantiles: tuple[float, ...] = ()
    abstain_risk: float | None = None
    abstain_delta: float = 0.05
    abstain_error: float | None = None
    written_tokens: bool = False

    def check(self, model: "Model") -> None:
        """Refuses to predict a spread that a model does not have.

        Raises:
            ConfigError: probabilities of a model of numbers alone; the standard deviation or quantiles of a model
                without numbers, or of one that writes nothing; the tokens of one that writes nothing; shares that are
                none, too many, or one of them twice; an interval of a model that was not calibrated, or not on enough
                rows; marginal answers of one that is no record, or whose answers are the Director's; to abstain with a
                model that was not calibrated for it, or a tolerance that is missing or not asked for.
        """
        fields = model.target.fields
        numbers = [name for name, field in fields.items() if field.numeric]
        calibrations = model.contents.calibrations
        if self.interval is not None:
            if not calibrations:
                raise ConfigError(
                    "Expected a calibrated model for an interval, found one without calibration. Run predgen calibrate "
                    "on rows that nothing was chosen on, or fit with --calibration."
                )
            for calibration in calibrations.values():
                calibration.check(self.interval)
        if self.probabilities and len(numbers) == len(fields):
            raise ConfigError(
                "Expected a model of labels for probabilities, found one of numbers. Ask for std instead."
            )
        _check_shares(self.quantiles)
        if (self.std or self.quantiles) and (not numbers or not model.method.writes):
            actual = "the predictor, which writes none" if numbers else "one of labels"
            what = "standard deviation" if self.std else "quantiles"
            raise ConfigError(
                f"Expected a model that writes numbers for their {what}, found {actual}. "
                + ("Fit the generator or predgen." if numbers else "Ask for probabilities instead.")
            )
        if self.written_tokens and not model.method.writes:
            raise ConfigError(
                "Expected a model that writes for the tokens that it wrote, found the predictor, which writes none. "
                "Fit the generator or predgen."
            )
        if self.marginal and len(fields) == 1:
            raise ConfigError("Expected a record for marginal answers, found one field. Leave marginal out.")
        if self.abstain_risk is not None:
            abstaining_of(model, self)
        elif self.abstain_error is not None:
            raise ConfigError("Expected abstain_risk with abstain_error, found none. Say both, or leave both out.")
        mixes = model.contents.answering.mixes
        if self.marginal and isinstance(model.method, PredGen) and any(mix.director != 0 for mix in mixes):
            raise ConfigError(
                "Expected answers from the Writer for marginal ones, found the Director's, which reads what was "
                "written. Add --predict-from writer."
            )

    def needs_spread(self, target: Target) -> bool:
        """Returns whether the probabilities of labels, or the distributions of numbers, are needed for it."""
        has_sets = self.interval is not None and any(not field.numeric for field in target.fields.values())
        asks = self.probabilities or self.std or bool(self.quantiles) or self.abstain_risk is not None
        return asks or has_sets

    def columns(self, model: "Model") -> list[str]:
        """Returns the columns that a prediction adds, in their order."""
        names = output_names(
            model.target,
            model.contents.calibrations,
            probabilities=self.probabilities,
            std=self.std,
            interval=self.interval is not None,
            quantiles=self.quantiles,
        )
        names += [ABSTAINED] if self.abstain_risk is not None else []
        return names + ([WRITTEN_TOKENS] if self.written_tokens else [])


def as_quantiles(given: Any) -> tuple[float, ...]:
    """Returns shares as `Asked` holds them; `Asked.check` says whether they are shares.

    Args:
        given: several numbers, or texts that are numbers.

    Raises:
        ConfigError: one is no number.
    """
    try:
        return tuple(float(share) for share in given)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"Expected shares such as 0.05, 0.5 and 0.95 for quantiles, found {given!r}. Give a list of numbers."
        ) from error


def _check_shares(quantiles: Sequence[float]) -> None:
    """Refuses shares that are none, too many, or one of them twice."""
    if len(quantiles) > MOST_QUANTILES:
        raise ConfigError(f"Expected at most {MOST_QUANTILES} quantiles, found {len(quantiles)}. Ask for fewer.")
    for place, share in enumerate(quantiles):
        if not 0 < share < 1:
            raise ConfigError(
                f"Expected shares above 0 and below 1 for quantiles, found {share:g}. Write 5 % as 0.05, for example."
            )
        if share in quantiles[:place]:
            raise ConfigError(f"Expected each quantile once, found {share:g} twice. Leave one of them out.")
