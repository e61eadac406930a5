"""What a user declares of a column to predict, besides its kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from predgen.targets.ranges import Form


@dataclass(frozen=True)
class Declared:
    """What is declared of a column; what is not declared is inferred from the column.

    Attributes:
        label_text: the word to write for a label, by the label's text.
        label_codes: write letters A, B, C … for the labels.
        labels: the labels; for ordered ones in their order.
        positive: of two labels the one that average precision and a chosen threshold are of.
        low: the low end of a number's range, or of a date's, in ISO form.
        high: the high end.
        decimals: a number's digits after the point, or those of its mantissa.
        form: how a number is written.
        logarithmic: whether a number's logarithm is learned.
        number_format: how cells write a number; None for plain numbers.
        date_format: how cells write a date, as `datetime.strptime` reads it; None for ISO 8601.
    """

    label_text: Mapping[str, str] = field(default_factory=dict)
    label_codes: bool = False
    labels: tuple[str, ...] | None = None
    positive: str | None = None
    low: float | str | None = None
    high: float | str | None = None
    decimals: int | None = None
    form: Form | None = None
    logarithmic: bool | None = None
    number_format: str | None = None
    date_format: str | None = None

    @property
    def numbers(self) -> bool:
        """Whether something is declared that only numbers have."""
        settings = (
            self.low,
            self.high,
            self.decimals,
            self.form,
            self.logarithmic,
            self.number_format,
            self.date_format,
        )
        return any(setting is not None for setting in settings)

    @property
    def words(self) -> bool:
        """Whether something is declared that only labels have."""
        named = self.labels is not None or self.positive is not None
        return bool(self.label_text) or self.label_codes or named


# Nothing is declared.
UNDECLARED = Declared()
