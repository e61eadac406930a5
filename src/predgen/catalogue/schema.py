"""What a task is: where its rows are, how a row becomes a prompt and an answer, and what is reported of it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from predgen.backbones.template import Template
from predgen.config import LabelText
from predgen.errors import PredGenError
from predgen.measures.kinds import MEASURES
from predgen.targets.label import check_words

PartName = Literal["train", "validation", "test"]
PARTS: tuple[PartName, ...] = ("train", "validation", "test")
# A cell's type; `any` is for cells that nothing reads, and is checked where something is made of it.
CellType = Literal["text", "integer", "number", "boolean", "texts", "any"]
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Hub(_Strict):
    """Where a dataset is on the Hugging Face hub."""

    id: str = Field(description="the dataset's id, owner/name")
    config: str | None = Field(None, description="which configuration")
    revision: str | None = Field(None, description="a branch, tag or commit")
    rename: dict[str, str] = Field(default_factory=dict, description="the hub's name of a column: ours")
    splits: dict[str, str] = Field(
        default_factory=dict, description="our name of a split: the hub's, or several with + between them"
    )
    hidden: tuple[str, ...] = Field((), description="our names of splits whose answers the hub does not give")


class Part(_Strict):
    """Where a part's rows come from."""

    split: str = Field(alias="from", description="the split of the source")
    share: float | None = Field(
        None, gt=0, lt=1, description="the share of that split's rows; without one, those that no other part takes"
    )
    task: str | None = Field(None, description="the task whose rows they are, if not this one")


class Parts(_Strict):
    """The three parts of a task."""

    train: Part
    validation: Part
    test: Part
    note: str | None = Field(None, description="what is said of these parts whenever they are read")

    def sources(self) -> dict[tuple[str | None, str], list[PartName]]:
        """Returns the parts that each split of each task gives rows to."""
        names_of_source: dict[tuple[str | None, str], list[PartName]] = {}
        for name in PARTS:
            part: Part = getattr(self, name)
            names_of_source.setdefault((part.task, part.split), []).append(name)
        return names_of_source

    @model_validator(mode="after")
    def _shares_fit(self) -> "Parts":
        for (_, split), names in self.sources().items():
            shares = [getattr(self, name).share for name in names]
            whole = [name for name, share in zip(names, shares, strict=True) if share is None]
            if len(whole) != 1 or sum(share or 0 for share in shares) >= 1:
                raise ValueError(
                    f"expected one part without a share, and shares below 1 together, of the split '{split}', found "
                    f"{', '.join(f'{name} {share or chr(8212)}' for name, share in zip(names, shares, strict=True))}"
                )
        return self


class _Making(_Strict):
    """How a column is made.

    Attributes:
        needs: the type that a field's column must have; one of type `any` is read as it.
    """

    needs: ClassVar[Mapping[str, CellType]] = {"of": "text"}


class _OfTexts(_Making):
    needs: ClassVar[Mapping[str, CellType]] = {"of": "texts"}

    of: str = Field(description="a column of texts, or column.key of a nested one")
    word: str = Field(description="stands before the position")


class Numbered(_OfTexts):
    """`Answer1: first Answer2: second`: each text of a list after a word and its position."""

    how: Literal["numbered"]
    separator: str = Field(" ", description="stands between them")


class Names(_OfTexts):
    """`answer1/answer2`: a word and a position for each text of a list."""

    how: Literal["names"]
    separator: str = Field("/", description="stands between them")


class Position(_Making):
    """`2`: the position, counted from 1, of a cell's text in a list."""

    needs: ClassVar[Mapping[str, CellType]] = {"among": "texts"}

    how: Literal["position"]
    of: str = Field(description="the column whose text is looked for")
    among: str = Field(description="the column of texts, or column.key of a nested one")


class AfterMark(_Making):
    """The text behind the last occurrence of a mark, without the commas of a number."""

    how: Literal["after_mark"]
    of: str = Field(description="a column of text")
    mark: str = Field(min_length=1, description="such as ####")


class Filled(_Making):
    """A text whose only `<word/>` is replaced by another column's text."""

    needs: ClassVar[Mapping[str, CellType]] = {"of": "text", "by": "text"}

    how: Literal["filled"]
    of: str = Field(description="the text with the mark")
    by: str = Field(description="the column that takes the mark's place")


class Unmarked(_Making):
    """A text whose `<word/>` is the word alone."""

    how: Literal["unmarked"]
    of: str = Field(description="the text with the mark")


class Joined(_Making):
    """Two texts with a blank between them."""

    needs: ClassVar[Mapping[str, CellType]] = {"of": "text", "by": "text"}

    how: Literal["joined"]
    of: str = Field(description="the first text")
    by: str = Field(description="the text that follows it")


Making = Annotated[Numbered | Names | Position | AfterMark | Filled | Unmarked | Joined, Field(discriminator="how")]


class TargetSpec(_Strict):
    """What is predicted."""

    column: str = Field(description="the column of the answers, the source's or one that is made")
    kind: Literal["number", "label"]
    label_text: LabelText = Field(default_factory=dict, description="all labels, and the word to write for each")
    low: float | None = Field(None, description="low end of the number")
    high: float | None = Field(None, description="high end of the number")
    decimals: int | None = Field(None, ge=0, le=12, description="its digits after the point")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> "TargetSpec":
        numbers = (self.low, self.high, self.decimals)
        if self.kind == "label" and (len(self.label_text) < 2 or any(number is not None for number in numbers)):
            raise ValueError("expected label_text with two labels or more for the kind label, and no range")
        if self.kind == "number" and (self.label_text or any(number is None for number in numbers)):
            raise ValueError("expected low, high and decimals for the kind number, and no label_text")
        if self.label_text:
            check_words(list(self.label_text), list(self.label_text.values()))
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"expected low below high, found {self.low} and {self.high}")
        return self


class Citation(_Strict):
    """Whom to cite."""

    authors: str
    title: str
    venue: str
    year: int = Field(ge=1900, le=2100)
    arxiv: str | None = None
    doi: str | None = None
    url: str | None = None


class Task(_Strict):
    """One task: data, prompt, answer, metrics.

    The prompt and the target read *flat* columns: those of the source that are no lists, and those that `make` makes.
    """

    name: str = Field(pattern=NAME)
    version: int = Field(ge=1, description="goes up when prompts, answers or parts change")
    title: str
    description: str
    group: Literal["regression", "classification", "commonsense", "arithmetic", "other"] = "other"
    hub: Hub | None = Field(None, description="where it is on the hub; none if it is not there in this form")
    folder: str | None = Field(
        None, pattern=NAME, description="its folder beside those of others; the name if not given"
    )
    columns: dict[str, CellType | dict[str, CellType]] = Field(min_length=1, description="the source's columns")
    splits: Parts
    fallback: Parts | None = Field(None, description="the parts where a split of `splits` is not there")
    shuffle: bool = Field(False, description="for sorted files: rows are shuffled by a fixed seed")
    make: dict[str, Making] = Field(default_factory=dict, description="flat columns made of the source's")
    template: str
    target: TargetSpec
    metrics: tuple[str, ...] = Field(min_length=1, description="the first one chooses the checkpoint")
    licence: str
    citation: Citation
    notes: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The name with the version."""
        return f"{self.name}@{self.version}"

    @property
    def folder_name(self) -> str:
        """The name of its folder beside those of other tasks."""
        return self.folder or self.name

    @property
    def inputs(self) -> tuple[str, ...]:
        """The flat columns that the prompt reads."""
        return Template.parse(self.template, self.flat_columns).fields

    @property
    def flat_columns(self) -> list[str]:
        """All flat columns."""
        return [*(name for name, kind in self.columns.items() if kind != "texts" and isinstance(kind, str)), *self.make]

    def settings(self) -> dict[str, Any]:
        """Returns the settings of a run that the task declares; what else a run sets stands above them."""
        labels = tuple(self.target.label_text) or None
        return {
            "data.target": self.target.column,
            "data.template": self.template,
            "data.kind": self.target.kind,
            "data.labels": labels,
            "data.label_text": self.target.label_text or None,
            "data.low": self.target.low,
            "data.high": self.target.high,
            "data.decimals": self.target.decimals,
            "train.metric": self.metrics[0],
        }

    @model_validator(mode="after")
    def _names_fit(self) -> "Task":
        twice = set(self.columns) & set(self.make)
        if twice:
            raise ValueError(f"make: expected names that no column has, found '{min(twice)}'")
        for name, making in self.make.items():
            for key in ("of", "by", "among"):
                self._check_column(f"make.{name}.{key}", getattr(making, key, None), making.needs.get(key))
        if self.target.column not in self.flat_columns:
            raise ValueError(_unknown("target.column", self.target.column, self.flat_columns))
        try:
            fields = self.inputs
        except PredGenError as error:
            raise ValueError(f"template: {error}") from error
        if self.target.column in fields:
            raise ValueError(f"template: expected fields other than the target, found '{self.target.column}'")
        known = MEASURES[self.target.kind].NAMES
        for metric in self.metrics:
            if metric not in known:
                raise ValueError(_unknown("metrics", metric, known))
            if self.metrics.count(metric) > 1:
                raise ValueError(f"metrics: expected every metric once, found '{metric}' twice")
        return self

    def column_type(self, column_path: str) -> CellType | None:
        """Returns the type of a column, or of a nested one's key (`column.key`); None if there is none of that name."""
        name, _, key = column_path.partition(".")
        kind = self.columns.get(name)
        if isinstance(kind, Mapping):
            return kind.get(key)
        return None if key else kind

    def _check_column(self, where: str, column_path: str | None, needed: CellType | None) -> None:
        """Refuses a path that is no column, or no key of a nested one, or is of another type than is needed."""
        if column_path is None:
            return
        kind = self.column_type(column_path)
        if kind is None:
            known_paths = [
                known_path
                for name, kind in self.columns.items()
                for known_path in ([f"{name}.{key}" for key in kind] if isinstance(kind, Mapping) else [name])
            ]
            raise ValueError(_unknown(where, column_path, known_paths))
        if needed is not None and kind not in (needed, "any"):
            raise ValueError(f"{where}: expected a column of the type {needed}, found '{column_path}' of type {kind}")


def _unknown(where: str, name: str, known: Any) -> str:
    return f"{where}: expected one of {', '.join(known)}, found '{name}'"
