"""Estimators as JSON and arrays: objects are named by their kind, and no code is stored."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft.persistence._kinds import kind_of, name_of_type
from sklearn_recft.persistence._objects import state_of
from sklearn_recft.persistence._tensors import can_hold

_MANY = 64  # from so many integers on, arrays are stored in the shortest type
MAX_DEPTH = 100  # values in values: what is deeper cannot be loaded
_BASE_BYTES = 1024


@dataclass
class Document:
    """A value as JSON and named arrays.

    Attributes
    ----------
    root : JSON value
    arrays : dict of str to ndarray
        Their names say where they are in the value.
    """

    root: Any = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def limit(self) -> int:
        """Return how many bytes an array may have that was written as counts."""
        return 2 * (sum(array.nbytes for array in self.arrays.values()) + _BASE_BYTES)


class Encoder:
    """Write values to a `Document`.

    A value that is not plain becomes an object of one key, which says what it is: ``{"tuple":
    [...]}``, ``{"array": name}``, ``{"kind": name, "state": ...}``.
    """

    def __init__(self) -> None:
        self.document = Document()
        self._numbers: dict[int, int | None] = {}
        self._alive: list[Any] = []  # a number is that of one object only while that one lives
        self._depth = 0
        self._ascending: list[tuple[dict[str, Any], np.ndarray]] = []

    def write(self, value: Any) -> Document:
        """Return a value as a document."""
        self.document.root = self.encode(value)
        for node, array in self._ascending:
            if array.nbytes > self.document.limit():  # it would be refused
                name = node["ascending"]
                node.clear()
                node["array"] = name
                self.document.arrays[name] = array
        return self.document

    def encode(self, value: Any, path: str = "", where: str = "") -> Any:
        """Return a value as JSON.

        Parameters
        ----------
        value : object
        path : str
            Where the value is, as in ``model.net_params['callbacks'][0]``, for messages.
        where : str
            The same as the name of an array.

        Raises
        ------
        TypeError
            If a value is of a type that a file cannot hold.
        """
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if np.isfinite(value) else {"float": repr(value)}
        if self._depth >= MAX_DEPTH:
            raise TypeError(
                f"{path[:80]}...: a value in more than {MAX_DEPTH} others, or in itself, cannot be "
                "saved."
            )
        self._depth += 1
        found = self._encode_inner(value, path, where)
        self._depth -= 1
        return found

    def _encode_inner(self, value: Any, path: str, where: str) -> Any:
        if type(value) is list:
            return [self.encode(v, f"{path}[{i}]", f"{where}.{i}") for i, v in enumerate(value)]
        for kind, method in _ENCODERS:
            if isinstance(value, kind):
                return method(self, value, path, where)
        return self._encode_object(value, path, where)

    def _encode_tuple(self, value: tuple, path: str, where: str) -> Any:
        return {"tuple": self._encode_inner(list(value), path, where)}

    def _encode_set(self, value: Any, path: str, where: str) -> Any:
        tag = "frozenset" if isinstance(value, frozenset) else "set"
        return {tag: self._encode_inner(sorted(value, key=repr), path, where)}

    def _encode_range(self, value: range, path: str, where: str) -> Any:
        return {"range": [value.start, value.stop, value.step]}

    def _encode_dict(self, value: dict, path: str, where: str) -> Any:
        if all(type(name) is str for name in value):
            listed = {n: self.encode(v, f"{path}[{n!r}]", f"{where}.{n}") for n, v in value.items()}
            # The order of keys is part of the value: JSON with sorted keys does not keep it.
            ordered = list(listed) == sorted(listed)
            return {"dict": listed} if ordered else {"dict": listed, "order": list(listed)}
        keys, values = list(value), list(value.values())
        return {"keys": self.encode(keys, path, where), "to": self.encode(values, path, where)}

    def _encode_bytes(self, value: bytes, path: str, where: str) -> Any:
        return {"bytes": base64.b64encode(value).decode("ascii")}

    def _encode_time(self, value: Any, path: str, where: str) -> Any:
        if type(value) is timedelta:
            return {"timedelta": [value.days, value.seconds, value.microseconds]}
        if type(value) is datetime:
            return {"datetime": value.isoformat(), "fold": value.fold}
        if type(value) is date:
            return {"date": value.isoformat()}
        return self._encode_object(value, path, where)

    def _encode_scalar(self, value: np.generic, path: str, where: str) -> Any:
        return {"scalar": self._encode_array(np.array(value), path, where)}

    def _encode_array(self, value: np.ndarray, path: str, where: str) -> Any:
        dtype = value.dtype
        if dtype.kind == "O":
            listed = self.encode(value.ravel().tolist(), path, where)
            return {"objects": listed, "shape": list(value.shape)}
        if dtype.kind == "U":
            dtype = dtype.newbyteorder("=")
            codes = np.ascontiguousarray(value, dtype).reshape(-1).view(np.uint32)
            return {"text": self._add(codes, where), "dtype": dtype.str, "shape": list(value.shape)}
        if dtype.kind in "Mm":
            found = self._add(value.astype(np.int64), where)
            return {"time": found, "dtype": dtype.str}
        if dtype == np.complex128:
            pairs = np.array(value, order="C")[..., None].view(np.float64)
            return {"complex": self._add(pairs, where)}
        if not can_hold(value) or np.ma.isMaskedArray(value):
            raise TypeError(
                f"{path}: a {type(value).__name__} of type {dtype} with {value.ndim} axes "
                "cannot be saved."
            )
        n_events = _counts(value)
        if n_events is not None:
            name = self._add(n_events, where)
            node = {"ascending": name, "dtype": dtype.newbyteorder("<").str, "size": len(value)}
            self._ascending.append((node, value))
            return node
        narrow = _narrow(value)
        if narrow is not None:
            name = self._add(value.astype(narrow), where)
            return {"narrow": name, "dtype": dtype.newbyteorder("<").str}
        return {"array": self._add(value, where)}

    def _encode_matrix(self, value: csr_array, path: str, where: str) -> Any:
        parts = {n: getattr(value, n) for n in ("data", "indices", "indptr")}
        listed = {n: self.encode(v, path, f"{where}.{n}") for n, v in parts.items()}
        return {"csr": listed, "shape": [int(n) for n in value.shape]}

    def _encode_type(self, value: type, path: str, where: str) -> Any:
        name = name_of_type(value)
        if name is None:
            raise TypeError(_refusal(path, f"the class {value.__name__}"))
        return {"type": name}

    def _encode_object(self, value: Any, path: str, where: str) -> Any:
        if type(value).__module__.startswith("torch") and hasattr(value, "detach"):
            return {"tensor": self.encode(value.detach().cpu().numpy(), path, where)}
        kind = kind_of(value)
        if kind is None:
            raise TypeError(_refusal(path, _named(value)))
        if id(value) in self._numbers:
            number = self._numbers[id(value)]
            if number is None:
                raise TypeError(f"{path}: a {kind} that contains itself cannot be saved.")
            return {"ref": number}
        self._numbers[id(value)] = None
        self._alive.append(value)
        state = self.encode(state_of(value), f"{path}" if path else "model", where)
        self._numbers[id(value)] = sum(n is not None for n in self._numbers.values())
        return {"kind": kind, "state": state}

    def _add(self, array: np.ndarray, where: str) -> str:
        """Add an array; return its name."""
        name = where.lstrip(".") or "value"
        while name in self.document.arrays:
            name += "+"
        self.document.arrays[name] = array
        return name


_ENCODERS: tuple[tuple[Any, Any], ...] = (
    (np.generic, Encoder._encode_scalar),
    (np.ndarray, Encoder._encode_array),
    (dict, Encoder._encode_dict),
    (tuple, Encoder._encode_tuple),
    ((set, frozenset), Encoder._encode_set),
    (range, Encoder._encode_range),
    (bytes, Encoder._encode_bytes),
    ((date, timedelta), Encoder._encode_time),
    (csr_array, Encoder._encode_matrix),
    (type, Encoder._encode_type),
)


def _counts(value: np.ndarray) -> np.ndarray | None:
    """Return how often each number is in an ascending array, if that takes at most half the bytes.

    Users of events and pairs are stored in their order.
    """
    if value.ndim != 1 or value.dtype.kind not in "iu" or len(value) < _MANY or value[0] < 0:
        return None
    if 2 * (int(value[-1]) + 1) > len(value) or not _ascends(value):
        return None
    counts = np.zeros(int(value[-1]) + 1, np.int32)
    ends = np.append(np.flatnonzero(value[1:] != value[:-1]), len(value) - 1)
    counts[value[ends]] = np.diff(ends, prepend=-1)
    return counts


def _ascends(value: np.ndarray) -> bool:
    """Whether no value is below the one before; most others are found by their first ones."""
    return all((part[1:] >= part[:-1]).all() for part in (value[:1000], value))


def _narrow(value: np.ndarray) -> np.dtype | None:
    """Return a shorter type that holds all these integers, if there is one."""
    if value.dtype.kind not in "iu" or value.size < _MANY:
        return None
    low, high = int(value.min()), int(value.max())
    types = (np.dtype(t) for t in ("u1", "u2", "i1", "i2", "i4") if np.dtype(t) < value.dtype)
    fitting = (t for t in types if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return min(fitting, key=lambda t: t.itemsize, default=None)


def _named(value: Any) -> str:
    name = getattr(value, "__name__", None)
    called = f" {name}" if isinstance(name, str) else ""
    return f"{type(value).__name__}{called}"


def _refusal(path: str, what: str) -> str:
    """Return the message for a value that a file cannot hold."""
    return (
        f"{path or 'model'}: {what} cannot be saved, because a file of this format holds no code. "
        "Ids must be numbers, strings, bytes, times or tuples of them; parameters must be plain "
        "values, arrays, or estimators of this package and of scikit-learn's preprocessing. "
        "Replace it before fit and give it again after load, or use pickle among trusted machines."
    )
