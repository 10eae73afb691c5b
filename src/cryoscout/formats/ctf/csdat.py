"""CryoSPARC's compressed table (CSDAT) as columns of NumPy arrays, unpacked within the size that its header says.

    6 bytes     magic 0x95 "CSDAT"
    4 bytes     length of the header, little-endian
    header      JSON: length (rows), dtype ([name, type, shape?] ...), compression ("lz4" or null), compressed_fields
    columns     in the order of dtype, none when there are no rows: 4 bytes length, then the values, little-endian and
                C-ordered; a compressed field is one LZ4 block
    rest        strings, each ended by a NUL byte; a field of type |O holds their places as unsigned 64-bit numbers

Sources: `cryosparc/dataset/__init__.py` and `dataset.h` of cryosparc-tools (the layout), lz4_Block_format.md (LZ4).
Doubt: written to those sources and checked against another LZ4 encoder, never against a file that CryoSPARC wrote.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np
from numpy.typing import NDArray

from cryoscout.core.errors import FileFormatError

MAGIC = b"\x95CSDAT"
LARGEST_HEADER_BYTES = 1024 * 1024
LARGEST_TABLE_BYTES = 256 * 1024 * 1024
"""Of all columns together, uncompressed; a larger table is refused before it is unpacked."""

_MOST_UNPACKED = 255
"""Most bytes that one byte of an LZ4 block can give."""
_TYPE = re.compile(r"[<|](?:[fiu][1248]|b1|c8|c16)")
_LARGEST_DIMENSION = 65_535


def read_csdat(path: Path, data: bytes) -> dict[str, NDArray[Any]]:
    """The columns of a table by name; text fields are object arrays of str.

    data : the whole file, beginning with the magic
    Raises FileFormatError when the layout is not as above, a piece is missing or the table is too large.
    """
    header, at = _header(path, data)
    rows = header["length"]
    columns: dict[str, NDArray[Any]] = {}
    texts: list[str] = []
    total = 0
    for entry in header["dtype"]:
        name, dtype, shape = _field(path, entry)
        if name in columns:
            raise _wrong(path, name, "a field must stand once. Got it again instead.")
        size = rows * int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        total += size
        if total > LARGEST_TABLE_BYTES:
            raise _wrong(
                path, name, f"a table must be at most {LARGEST_TABLE_BYTES:,} bytes. Got more instead."
            )
        values = b""
        if rows:
            piece, at = _piece(path, data, at, name)
            values = _unpacked(path, name, piece, size) if name in header["compressed_fields"] else piece
            if len(values) != size:
                raise _wrong(path, name, f"a field must hold {size:,} bytes. Got {len(values):,} instead.")
        columns[name] = np.frombuffer(values, dtype=dtype).reshape((rows, *shape))
        if entry[1] == "|O":
            texts.append(name)
    strings = data[at:]
    for name in texts:
        columns[name] = _texts(path, name, columns[name], strings)
    return columns


def _wrong(path: Path, name: str, message: str) -> FileFormatError:
    return FileFormatError(path, None, f"field {name}: {message}")


def _header(path: Path, data: bytes) -> tuple[dict[str, Any], int]:
    size = int.from_bytes(data[6:10], "little")
    if len(data) < 10 or size > LARGEST_HEADER_BYTES or len(data) < 10 + size:
        raise FileFormatError(path, None, "a CSDAT file must hold its header. Got a cut file instead.")
    try:
        header = json.loads(data[10 : 10 + size])
    except (ValueError, RecursionError):
        raise FileFormatError(
            path, None, "the header of a CSDAT file must be JSON. Got other text instead."
        ) from None
    is_right = (
        isinstance(header, dict)
        and type(header.get("length")) is int
        and 0 <= header["length"] < 2**32
        and isinstance(header.get("dtype"), list)
        and isinstance(header.get("compressed_fields"), list)
        and header.get("compression") in (None, "lz4")
    )
    if not is_right:
        raise FileFormatError(
            path,
            None,
            "the header of a CSDAT file must have length, dtype, compression (lz4 or null) and compressed_fields. "
            "Got another header instead. Remedy: save the table in NumPy format (cryosparc-tools, NUMPY_FORMAT).",
        )
    return header, 10 + size


def _field(path: Path, entry: Any) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    is_right = (
        isinstance(entry, list) and len(entry) in (2, 3) and all(isinstance(word, str) for word in entry[:2])
    )
    if not is_right or not (entry[1] == "|O" or _TYPE.fullmatch(entry[1])):
        raise FileFormatError(
            path, None, "a field of a CSDAT header must be [name, type, shape]. Got another instead."
        )
    shape = entry[2] if len(entry) == 3 else []
    dimensions_are_right = isinstance(shape, list) and len(shape) <= 3
    if not dimensions_are_right or not all(type(n) is int and 0 < n <= _LARGEST_DIMENSION for n in shape):
        raise _wrong(
            path, entry[0], "the shape of a field must be at most 3 whole numbers. Got another instead."
        )
    return entry[0], np.dtype("<u8" if entry[1] == "|O" else entry[1]), tuple(shape)


def _piece(path: Path, data: bytes, at: int, name: str) -> tuple[bytes, int]:
    size = int.from_bytes(data[at : at + 4], "little")
    end = at + 4 + size
    if at + 4 > len(data) or end > len(data):
        raise _wrong(path, name, "a field must be whole. Got a cut file instead.")
    return data[at + 4 : end], end


def _texts(path: Path, name: str, places: NDArray[Any], strings: bytes) -> NDArray[Any]:
    known: dict[int, str] = {}
    total = 0
    for place in np.unique(places).tolist():
        end = strings.find(b"\0", place) if place < len(strings) else -1
        if end < 0:
            raise _wrong(
                path, name, "a text must be among the strings of the file. Got a place outside instead."
            )
        total += end - place
        if total > len(strings):
            raise _wrong(path, name, "texts must not overlap. Got more text than the file has instead.")
        try:
            known[place] = strings[place:end].decode("utf-8")
        except UnicodeDecodeError:
            raise _wrong(path, name, "a text must be UTF-8. Got other bytes instead.") from None
    values = np.empty(places.shape, dtype=object)
    values.ravel()[:] = [known[place] for place in places.ravel().tolist()]
    return values


def _unpacked(path: Path, name: str, piece: bytes, size: int) -> bytes:
    """One LZ4 block, which must give `size` bytes; memory is taken for no more, and only where it can give them."""
    message = f"a field must be one LZ4 block of {size:,} bytes. Got a damaged block instead."
    if size > _MOST_UNPACKED * len(piece):
        raise _wrong(path, name, message)
    try:
        return bytes(lz4.block.decompress(piece, uncompressed_size=size))
    except lz4.block.LZ4BlockError:
        raise _wrong(path, name, message) from None
