"""Dates in cells: ISO 8601, or a declared form; a day is counted from 1970-01-01."""

import re
from datetime import date, datetime, time

from predgen.errors import ConfigError, explain
from predgen.targets.cells import describe, is_missing

EPOCH = date(1970, 1, 1).toordinal()
FIRST_DAY, LAST_DAY = date.min.toordinal() - EPOCH, date.max.toordinal() - EPOCH
# A timestamp at midnight is a date that a typed table holds, such as those of pandas and Parquet.
_MIDNIGHT = r"(?:[T ]00:00(?::00(?:\.0+)?)?)?"
_ISO = re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}){_MIDNIGHT}")
_TIMED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:.*")
_OTHER_FORMS = {
    "%d.%m.%Y": re.compile(r"[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4}"),
    "%m/%d/%Y or %d/%m/%Y": re.compile(r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}"),
    "%Y/%m/%d": re.compile(r"[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}"),
    "%Y%m%d": re.compile(r"(?:19|20)[0-9]{6}"),
}


def day_of(cell: object, date_format: str | None = None) -> int | None:
    """Returns the day of a cell, counted from 1970-01-01; None for a cell that is no date, or has a time of day.

    Args:
        cell: text, or a date or a timestamp of Python, numpy or pandas.
        date_format: how texts are written, as `datetime.strptime` reads it; ISO 8601 if not given. A declared form is
            the only one that is read: `%Y-%d-%m` and ISO look alike.

    Example:
        >>> day_of("1970-01-02"), day_of("2021-02-30"), day_of("1.3.2021", "%d.%m.%Y")
        (1, None, 18687)
    """
    if is_missing(cell):
        return None
    if isinstance(cell, datetime):
        return None if cell.timetz() != time() else cell.toordinal() - EPOCH
    if isinstance(cell, date):
        return cell.toordinal() - EPOCH
    if not isinstance(cell, str):
        return None
    text = cell.strip()
    try:
        if date_format is not None:
            return day_of(datetime.strptime(text, date_format))
        match = _ISO.fullmatch(text)
        return None if match is None else date.fromisoformat(match[1]).toordinal() - EPOCH
    except ValueError:  # such as February 30
        return None


def iso_of(day: float | int) -> str:
    """Returns a day as ISO 8601 writes it, rounded to a whole one (ties to even), from 0001-01-01 to 9999-12-31.

    Args:
        day: finite, counted from 1970-01-01.

    Example:
        >>> iso_of(18687.4)
        '2021-03-01'
    """
    return date.fromordinal(min(max(round(day), FIRST_DAY), LAST_DAY) + EPOCH).isoformat()


def check_date_format(date_format: str) -> None:
    """Refuses a form that does not say which day it is.

    Raises:
        ConfigError: day, month or year is missing, or it is no form.
    """
    days = (date(2004, 2, 29), date(1999, 12, 31))
    try:
        is_whole = all(datetime.strptime(day.strftime(date_format), date_format).date() == day for day in days)
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ConfigError(
            f"Expected a date_format with day, month and year, such as %d.%m.%Y, found '{date_format}'. Correct it, or "
            "leave it out for ISO dates such as 2021-03-01."
        )


def date_trouble(cell: object, date_format: str | None) -> str:
    """Returns what a message says of a cell that is no date: expected, found, and what to do."""
    form = "in ISO form, such as 2021-03-01" if date_format is None else f"in the form {date_format}"
    text = str(cell).strip()
    if _TIMED.fullmatch(text) or isinstance(cell, datetime):
        fix = "Cut the time of day off, or correct or remove the row."
    elif date_format is None and (hint := _form_hint(text)):
        fix = f"Declare --date-format {hint}, or correct or remove the row."
    else:
        fix = "Correct or remove the row."
    is_iso = date_format is None and _ISO.fullmatch(text) is not None
    return explain(
        expected=f"a date {form}", found=describe(cell) + (", a day that no calendar has" if is_iso else ""), fix=fix
    )


def _form_hint(text: str) -> str:
    return next((form for form, pattern in _OTHER_FORMS.items() if pattern.fullmatch(text)), "")


def date_hint(cell: object) -> str:
    """Returns what to declare so that a text is read as a date; nothing for other cells.

    Example:
        >>> print(date_hint("2021-03-01"))
        Declare --kind date
    """
    if day_of(cell) is not None:
        return "Declare --kind date"
    text = cell.strip() if isinstance(cell, str) else ""
    form = _form_hint(text) if not text.isdigit() else ""
    return f"Declare --kind date with --date-format {form}" if form else ""
