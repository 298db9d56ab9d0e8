"""Messages on a pipe: 4-byte big-endian length, then as many bytes."""

from typing import BinaryIO


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame (4-byte big-endian length, then as many bytes), or `None` at the end."""
    header = stream.read(4)
    if len(header) < 4:
        return None
    length = int.from_bytes(header, "big")
    data = stream.read(length)
    return data if len(data) == length else None


def frame(data: bytes) -> bytes:
    """`data` with its length before it."""
    return len(data).to_bytes(4, "big") + data
