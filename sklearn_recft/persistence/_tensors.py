"""Read and write safetensors files, one array at a time, with all checks before any allocation."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sklearn_recft.persistence._json import read_json

# The types that a file may hold, by their name in safetensors.
DTYPES = {
    "BOOL": np.dtype(bool),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# Largest header: far more than the largest model needs.
_MAX_HEADER = 16 << 20
_MAX_DIMENSIONS = 8
# The header is padded, so that each array is aligned in a mapped file.
_ALIGNMENT = 8


class Source(Protocol):
    """What bytes are read from: a file, or what decrypts one."""

    def read(self, n_bytes: int, /) -> bytes:
        """Return the next bytes."""

    def readinto(self, block: Any, /) -> int:
        """Read the next bytes into a block; return how many."""


class Target(Protocol):
    """What bytes are written to: a file, or what encrypts one."""

    def write(self, block: Any, /) -> int:
        """Write bytes."""


@dataclass(frozen=True)
class Place:
    """Type, shape, and place of an array in the data of a file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def can_hold(array: np.ndarray) -> bool:
    """Whether a file can hold an array of this type and number of axes."""
    return array.dtype.newbyteorder("<") in _NAMES and array.ndim <= _MAX_DIMENSIONS


def write_tensors(file: Target, arrays: Mapping[str, np.ndarray]) -> tuple[int, str]:
    """Write arrays; return the size of the file, and its SHA-256.

    Wider types come first, as in the library, which aligns all arrays.
    """
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, Any] = {}
    end = 0
    for name in names:
        array = arrays[name]
        begin, end = end, end + array.nbytes
        kind = _NAMES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    found = hashlib.sha256()
    prefix = len(text).to_bytes(8, "little") + text
    file.write(prefix)
    found.update(prefix)
    for name in names:
        array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        block = array.reshape(-1).view(np.uint8).data
        file.write(block)
        found.update(block)
    return 8 + len(text) + end, found.hexdigest()


def read_tensors(file: Source, size: int) -> tuple[dict[str, np.ndarray], str]:
    """Read all arrays of a file; return them, and the SHA-256 of the file.

    Parameters
    ----------
    file : file
        Open at its begin.
    size : int
        Number of its bytes.

    Raises
    ------
    ValueError
        If the file is not valid. Memory is allocated for arrays that are in the file, only.
    """
    _, places, found = _read_header(file, size)
    arrays = {}
    for name, place in places.items():
        array = np.empty(math.prod(place.shape), place.dtype)
        block = array.view(np.uint8).data
        if file.readinto(block) != len(block):
            raise ValueError(f"{name!r} is cut off")
        found.update(block)
        arrays[name] = _checked(name, array.reshape(place.shape))
    return arrays, found.hexdigest()


def mapped_tensors(path: Path, file: Source, size: int) -> dict[str, np.ndarray]:
    """Map all arrays of a file, copy on write, in place of reading them; no hash is computed."""
    start, places, _ = _read_header(file, size)
    mapped = ((name, _mapped(path, start, place)) for name, place in places.items())
    return {name: _checked(name, array) for name, array in mapped}


def read_places(file: Source, size: int) -> dict[str, Place]:
    """Read types and shapes of the arrays of a file."""
    return _read_header(file, size)[1]


def _read_header(file: Source, size: int) -> tuple[int, dict[str, Place], Any]:
    """Return where the data begins, the places of arrays in file order, and a hash so far."""
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or not 2 <= length <= min(_MAX_HEADER, size - 8):
        raise ValueError(f"a header of {length} bytes is not possible in a file of {size} bytes")
    text = file.read(length)
    header = read_json(text)
    if not isinstance(header, dict):
        raise ValueError("the header is not a JSON object")
    places = {name: _place(name, entry) for name, entry in header.items()}
    ordered = sorted(places.items(), key=lambda pair: (pair[1].begin, pair[1].end))
    at = 0
    for name, place in ordered:
        if place.begin != at:
            raise ValueError(f"{name!r} begins at {place.begin}, and the data before it ends {at}")
        at = place.end
    if at != size - 8 - length:
        raise ValueError(f"arrays of {at} bytes are declared, and {size - 8 - length} are there")
    return 8 + length, dict(ordered), hashlib.sha256(prefix + text)


def _place(name: str, entry: Any) -> Place:
    """Check the entry of an array in the header."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name!r} needs dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name!r} has the type {dtype!r}, which is not one of {sorted(DTYPES)}")
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"{name!r} has the shape {shape!r}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name!r} has the offsets {offsets!r}")
    n_bytes = math.prod(shape) * DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != n_bytes:
        raise ValueError(f"{name!r} needs {n_bytes} bytes, and its offsets are {offsets!r}")
    return Place(DTYPES[dtype], tuple(shape), *offsets)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def _mapped(path: Path, start: int, place: Place) -> np.ndarray:
    """Map an array, copy on write; an empty one cannot be mapped."""
    if place.begin == place.end:
        return np.empty(place.shape, place.dtype)
    return np.memmap(path, place.dtype, "c", start + place.begin, place.shape)


def _checked(name: str, array: np.ndarray) -> np.ndarray:
    """Refuse bytes that are neither True nor False: compiled loops would misread them."""
    if array.dtype == bool and array.size and array.view(np.uint8).max() > 1:
        raise ValueError(f"{name!r} has values that are neither 0 nor 1")
    return array
