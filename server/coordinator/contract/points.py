"""Many points in one piece of memory."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Self, overload

from coordinator.contract.errors import InvalidPoint
from coordinator.contract.secp import parse_point


class PointList(Sequence[bytes]):
    """An immutable sequence of 33-byte points, held as one bytes object: contracts have thousands."""

    __slots__ = ("packed",)

    def __init__(self, points: Iterable[bytes] = ()) -> None:
        """
        Raises:
            InvalidPoint: A point has not 33 bytes.
        """
        points = tuple(points)
        if any(len(point) != 33 for point in points):
            raise InvalidPoint("a compressed point has 33 bytes")
        self.packed = b"".join(points)

    @classmethod
    def from_packed(cls, packed: bytes) -> Self:
        """From concatenated points.

        Raises:
            InvalidPoint: The length is no multiple of 33.
        """
        if len(packed) % 33:
            raise InvalidPoint("a compressed point has 33 bytes")
        points = cls()
        points.packed = bytes(packed)
        return points

    def validate(self, field: str) -> None:
        """
        Raises:
            InvalidPoint: One is not on the curve; named by its index.
        """
        for i, point in enumerate(self):
            try:
                parse_point(point)
            except InvalidPoint as error:
                raise InvalidPoint(str(error), field=f"{field}[{i}]") from None

    def find(self, point: bytes) -> int | None:
        """Index of the first occurrence of a point, or None."""
        at = self.packed.find(point)
        while at >= 0 and at % 33:
            at = self.packed.find(point, at + 1)
        return at // 33 if at >= 0 else None

    def __len__(self) -> int:
        return len(self.packed) // 33

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> "PointList": ...
    def __getitem__(self, index: int | slice) -> "bytes | PointList":
        if isinstance(index, slice):
            return PointList(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError("no such point")
        at = index % len(self) * 33
        return self.packed[at : at + 33]

    def __iter__(self) -> Iterator[bytes]:
        packed = self.packed
        return (packed[at : at + 33] for at in range(0, len(packed), 33))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PointList):
            return self.packed == other.packed
        if isinstance(other, (list, tuple)):
            return list(self) == list(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.packed)

    def __repr__(self) -> str:
        return f"<PointList of {len(self)}>"
