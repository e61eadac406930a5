"""Numbers as people write them: thousands separators, decimal commas, percentages, currencies; read as declared.

The forms are regular expressions and not Babel's: its strict parser refuses broken groups of digits, and takes `NaN`,
`1e5`, `1_000` and the digits of other scripts all the same.
"""

import math
import re
import unicodedata
from dataclasses import dataclass

from predgen.errors import TargetError, explain
from predgen.names import NUMBER_FORMATS
from predgen.targets.cells import describe, number_form, parse_number

# What stands between thousands or beside a sign of percent or currency: a space, also one that does not break.
_SPACE = "[ \u00a0\u202f]"
_EN = r"(?:0|[1-9][0-9]*|[1-9][0-9]{0,2}(?:,[0-9]{3})+)(?:\.[0-9]+)?"
# One sort of separator in a number: `1.234.567`, or `1 234 567`.
_DE = rf"(?:0|[1-9][0-9]*|[1-9][0-9]{{0,2}}(?:(?P<group>\.|{_SPACE})[0-9]{{3}}(?:(?P=group)[0-9]{{3}})*))(?:,[0-9]+)?"
_SIGN = "[-+\u2212]"
# A sign or three letters, which may be a currency.
_MARK = "[^\\W\\d_]{3}|[^\\w\\s.,%()'+\u2212-]"
_CURRENCIES = re.compile(
    "AED|AFN|ALL|AMD|AOA|ARS|AUD|AWG|AZN|BAM|BBD|BDT|BGN|BHD|BIF|BMD|BND|BOB|BRL|BSD|BTN|BWP|"
    "BYN|BZD|CAD|CDF|CHF|CLP|CNY|COP|CRC|CUP|CVE|CZK|DJF|DKK|DOP|DZD|EGP|ERN|ETB|EUR|FJD|FKP|"
    "GBP|GEL|GHS|GIP|GMD|GNF|GTQ|GYD|HKD|HNL|HTG|HUF|IDR|ILS|INR|IQD|IRR|ISK|JMD|JOD|JPY|KES|"
    "KGS|KHR|KMF|KPW|KRW|KWD|KYD|KZT|LAK|LBP|LKR|LRD|LSL|LYD|MAD|MDL|MGA|MKD|MMK|MNT|MOP|MRU|"
    "MUR|MVR|MWK|MXN|MYR|MZN|NAD|NGN|NIO|NOK|NPR|NZD|OMR|PAB|PEN|PGK|PHP|PKR|PLN|PYG|QAR|RON|"
    "RSD|RUB|RWF|SAR|SBD|SCR|SDG|SEK|SGD|SHP|SLE|SOS|SRD|SSP|STN|SVC|SYP|SZL|THB|TJS|TMT|TND|"
    "TOP|TRY|TTD|TWD|TZS|UAH|UGX|USD|UYU|UZS|VED|VES|VND|VUV|WST|XAF|XCD|XCG|XOF|XPF|YER|ZAR|"
    "ZMW|ZWG"
)


@dataclass(frozen=True)
class _Format:
    """How a format is read.

    Attributes:
        digits: the expression of a number without its sign.
        point: the decimal mark.
        percent: whether a sign of percent follows, which must stand there; else a currency may stand there.
        example: for messages.
    """

    digits: str
    point: str
    percent: bool
    example: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """The expression of a whole cell; `re` keeps those that it compiled."""
        if self.percent:
            return re.compile(f"(?P<sign>{_SIGN}?)(?P<digits>{self.digits}){_SPACE}?%")
        before = f"(?P<sign>{_SIGN}?)(?:(?P<before>{_MARK}){_SPACE}?)?(?P<inner>{_SIGN}?)"
        return re.compile(f"{before}(?P<digits>{self.digits})(?:{_SPACE}?(?P<after>{_MARK}))?")


_FORMATS = {
    "en": _Format(_EN, ".", False, "1,234.5"),
    "de": _Format(_DE, ",", False, "1.234,5"),
    "percent": _Format(_EN, ".", True, "12.5 %"),
    "percent_de": _Format(_DE, ",", True, "12,5 %"),
}


@dataclass(frozen=True)
class Amount:
    """What a cell says.

    Attributes:
        value: the number; of a percentage the number before its sign, so that `12 %` is 12.
        currency: the sign or the code beside it; empty if there is none.
    """

    value: float
    currency: str = ""


def read_amount(cell: object, number_format: str) -> Amount | None:
    """Returns what a cell says in a format, or None.

    Numbers that are typed, as in Parquet files, stand for themselves, but as percentages: whether a typed 0.12 is
    12 % or 0.12 %, nobody can tell.

    Args:
        cell: the cell.
        number_format: one of `predgen.names.NUMBER_FORMATS`.

    Example:
        >>> read_amount("-$1,234.50", "en"), read_amount("12,5 %", "percent_de"), read_amount("1,23,4", "en")
        (Amount(value=-1234.5, currency='$'), Amount(value=12.5, currency=''), None)
    """
    form = _FORMATS[number_format]
    if not isinstance(cell, str):
        number = None if form.percent else parse_number(cell)
        return None if number is None else Amount(number)
    match = form.pattern.fullmatch(cell.strip())
    if match is None:
        return None
    parts = match.groupdict()
    signs = parts["sign"] + (parts.get("inner") or "")
    marks = [mark for mark in (parts.get("before"), parts.get("after")) if mark]
    if len(signs) > 1 or len(marks) > 1 or not all(map(_is_currency, marks)):
        return None
    whole, _, fraction = parts["digits"].partition(form.point)
    value = float(f"{re.sub(r'[^0-9]', '', whole)}.{fraction or '0'}")
    return Amount(-value if signs in ("-", "\u2212") else value, *marks) if math.isfinite(value) else None


def _is_currency(mark: str) -> bool:
    """Returns whether a mark is of Unicode's category of currency signs, or a code of ISO 4217 that is in use."""
    return bool(_CURRENCIES.fullmatch(mark)) or (len(mark) == 1 and unicodedata.category(mark) == "Sc")


def amount_of(cell: object, number_format: str | None) -> Amount:
    """Returns what a cell says, in a format or as a plain number.

    Raises:
        TargetError: it is none; the message names the formats that would read it.
    """
    if number_format is None:
        number = parse_number(cell)
        amount = None if number is None else Amount(number)
        expected = "a finite number"
    else:
        amount = read_amount(cell, number_format)
        expected = f"a number such as {_FORMATS[number_format].example} ({number_format})"
    if amount is not None:
        return amount
    hint = formats_hint(cell)
    declare = f"{hint}, or correct or remove the row." if hint else "Correct or remove the row"
    otherwise = "" if hint else ", or declare the kind 'label'." if number_format is None else "."
    form = number_form(cell) if number_format is None else ""
    raise TargetError(explain(expected=expected, found=describe(cell) + form, fix=declare + otherwise))


def formats_hint(cell: object) -> str:
    """Returns what to declare so that a text is read, and what it is then; nothing for what no format reads.

    Example:
        >>> print(formats_hint("1,234"))
        Declare --number-format en (it is 1234 then) or de (1.234)
    """
    if not isinstance(cell, str) or parse_number(cell) is not None:
        return ""
    found = {name: read_amount(cell, name) for name in NUMBER_FORMATS}
    said = [f"{name} ({{}}{amount.value:.15g}{{}})" for name, amount in found.items() if amount is not None]
    if not said:
        return ""
    first, *others = said
    return " or ".join(
        ["Declare --number-format " + first.format("it is ", " then"), *(o.format("", "") for o in others)]
    )
