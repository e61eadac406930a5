"""Rows of numbers in temporary files that are mapped into memory: each is written once and read often."""

import logging
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from weakref import finalize

import torch
from jaxtyping import Num
from torch import Tensor

log = logging.getLogger("predgen")

GIB = 2**30
CHUNK_BYTES = 2**26
ALIGNMENT = 16


class RowStore:
    """A mapping from keys to rows of numbers, which lie in temporary files that go with the store.

    Args:
        most_bytes: what all rows together may take, whatever they are of.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.num_bytes = 0
        self._folder = Path(mkdtemp(prefix="predgen-states-"))
        finalize(self, rmtree, self._folder, ignore_errors=True)
        self._chunks: list[Tensor] = []
        self._used = 0  # bytes of the last chunk
        self._places: dict[bytes, tuple[int, int, int, torch.dtype]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __getitem__(self, key: bytes) -> Num[Tensor, " size"]:
        """Returns a row that was put there."""
        chunk, start, size, dtype = self._places[key]
        return self._chunks[chunk][start : start + size].view(dtype)

    def put(self, key: bytes, row: Num[Tensor, " size"]) -> bool:
        """Keeps a row where there is room for it, and returns whether there was.

        Args:
            key: what it is found by; a row that is there is kept as it is.
            row: its numbers, of any type.
        """
        if key in self._places:
            return True
        room = -(-row.nbytes // ALIGNMENT) * ALIGNMENT  # the next row begins where any type may
        if not self._chunks or self._used + room > len(self._chunks[-1]):
            num_bytes = max(min(CHUNK_BYTES, self.most_bytes - self.num_bytes), room)
            if self.num_bytes + num_bytes > self.most_bytes or not self._grow(num_bytes):
                return False
        self._chunks[-1][self._used : self._used + row.nbytes] = row.contiguous().view(torch.uint8)
        self._places[key] = len(self._chunks) - 1, self._used, row.nbytes, row.dtype
        self._used += room
        return True

    def _grow(self, num_bytes: int) -> bool:
        """Adds a file; returns whether the disk had room."""
        path = self._folder / f"{len(self._chunks)}"
        try:
            # Written out, as a disk that is full would end the process when a mapped page is first used.
            path.write_bytes(bytes(num_bytes))
        except OSError as error:
            log.warning("No more states are kept, as '%s' takes no more: %s.", path.parent, error.strerror)
            path.unlink(missing_ok=True)
            self.most_bytes = self.num_bytes
            return False
        self._chunks.append(torch.from_file(str(path), shared=True, size=num_bytes, dtype=torch.uint8))
        with suppress(OSError):  # what is mapped stays without its name, and goes even where the process is killed
            path.unlink()
        self.num_bytes += num_bytes
        self._used = 0
        return True
