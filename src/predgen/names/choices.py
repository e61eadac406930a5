"""Tables of names: what a table can do, and what each of its lines says."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar, runtime_checkable

from predgen.errors import unknown_name


@runtime_checkable
class Entry(Protocol):
    """A line of a table."""

    @property
    def description(self) -> str:
        """What the name means, in a few words; empty where the name says it."""

    @property
    def path(self) -> str:
        """The implementation as `module:object`; empty where there is none of its own."""


EntryT = TypeVar("EntryT", bound=Entry)


class Choices(Mapping[str, EntryT]):
    """A table of names.

    Args:
        kind: what is named, for messages, such as `method`.
        entries: what belongs to each name.

    Example:
        >>> from predgen.names.entries import Choice
        >>> colors = Choices("color", {"red": Choice(), "blue": Choice("of the sky")})
        >>> colors.listed, colors.explained, colors.check("red")
        ('red or blue', 'red or blue (of the sky)', 'red')
    """

    def __init__(self, kind: str, entries: Mapping[str, EntryT]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> EntryT:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, name: str) -> str:
        """Returns a name of the table as it is.

        Raises:
            UnknownNameError: it is not in the table; the closest name is suggested.
        """
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return name

    def load(self, name: str) -> Any:
        """Returns what implements a name.

        Raises:
            UnknownNameError: the name is not in the table.
        """
        return load(self[self.check(name)].path)

    @property
    def listed(self) -> str:
        """The names in a sentence."""
        return in_a_sentence(list(self))

    @property
    def explained(self) -> str:
        """The names in a sentence, each with its description."""
        return in_a_sentence(
            [f"{name} ({entry.description})" if entry.description else name for name, entry in self.items()]
        )


def load(path: str) -> Any:
    """Returns the object that a path names, such as `predgen.methods.losses:wdal`; its module is imported now."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def in_a_sentence(names: Sequence[str]) -> str:
    """Returns some names with commas, and with `or` before the last one."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
