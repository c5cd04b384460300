"""Sets of hashes in flat memory: which of many million rows has been seen before, and where."""

from __future__ import annotations

from array import array


class Seen:
    """Hashes of 64 bits in an open table that is never more than 2/3 full: 8 bytes a place, 16 with numbers.

    Two different rows among a million share a hash with a probability of 3e-8.
    """

    def __init__(self, *, numbers: bool = False) -> None:
        self._keys = array("Q", [0]) * 1024
        self._numbers = array("Q", [0]) * 1024 if numbers else None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        key = key or 1
        return self._keys[self._place(key)] == key

    def add(self, key: int, number: int = 0) -> bool:
        """Whether the hash is new; it is there afterwards, with this number if it is new and numbers are kept."""
        key = key or 1
        place = self._place(key)
        if self._keys[place] == key:
            return False
        self._put(place, key, number)
        self._count += 1
        if 3 * self._count > 2 * len(self._keys):
            self._grow()
        return True

    def number(self, key: int) -> int:
        """The number that came with this hash first."""
        assert self._numbers is not None, "numbers are not kept"
        return self._numbers[self._place(key or 1)]

    def _place(self, key: int) -> int:
        keys, last = self._keys, len(self._keys) - 1
        place = key & last
        while (there := keys[place]) and there != key:
            place = (place + 1) & last
        return place

    def _put(self, place: int, key: int, number: int) -> None:
        self._keys[place] = key
        if self._numbers is not None:
            self._numbers[place] = number

    def _grow(self) -> None:
        keys, numbers = self._keys, self._numbers
        self._keys = array("Q", [0]) * (2 * len(keys))
        self._numbers = None if numbers is None else array("Q", [0]) * len(self._keys)
        for before, key in enumerate(keys):
            if key:
                self._put(self._place(key), key, 0 if numbers is None else numbers[before])
