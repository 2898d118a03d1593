"""Values as arrays and plain numbers, strings, lists and dicts: what a file can hold."""

from __future__ import annotations

import itertools
from dataclasses import is_dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from scipy.sparse import csr_array

_TIMES = {
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "timedelta": lambda values: timedelta(*values),
    "datetime64": lambda values: np.datetime64(*values),
    "timedelta64": lambda values: np.timedelta64(*values),
}
_MANY = 64  # from so many strings on, a list of strings becomes arrays
_PLAIN = (type(None), bool, int, float, str, bytes, np.ndarray)


def to_plain(value: Any) -> Any:
    """Return ``value`` as arrays and plain values.

    Tuples, tensors, sparse matrices, long lists of strings and dataclasses become dicts that
    `from_plain` reads.

    Raises
    ------
    TypeError
        For a value of any other type.

    Examples
    --------
    >>> from sklearn_recft.models._state import from_plain, to_plain
    >>> from_plain(to_plain({"days": (3.0, 30.0)}))
    {'days': (3.0, 30.0)}
    """
    if isinstance(value, (date, timedelta, np.datetime64, np.timedelta64)):
        return _plain_time(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple):
        return {"": "tuple", "values": to_plain(list(value))}
    if isinstance(value, list):
        strings = len(value) >= _MANY and all(type(v) is str for v in value)
        return _plain_strings(value) if strings else [to_plain(v) for v in value]
    if type(value).__module__.startswith("torch") and hasattr(value, "detach"):
        return {"": "tensor", "values": value.detach().cpu().numpy().copy()}
    if isinstance(value, csr_array):
        arrays = {"data": value.data, "indices": value.indices, "indptr": value.indptr}
        return {"": "csr", "shape": [int(n) for n in value.shape], **arrays}
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain({f: getattr(value, f) for f in value.__dataclass_fields__})
    if isinstance(value, dict):
        return {str(name): to_plain(v) for name, v in value.items()}
    raise TypeError(f"A {type(value).__name__} cannot be part of a model's state.")


def from_plain(value: Any) -> Any:
    """Return the value that `to_plain` was given; dataclasses stay dicts."""
    if isinstance(value, list):
        return [from_plain(v) for v in value]
    if not isinstance(value, dict):
        return value
    if value.get("") == "tuple":
        return tuple(from_plain(value["values"]))
    if value.get("") == "strings":
        return _strings(value)
    if value.get("") in _TIMES:
        return _TIMES[value[""]](value["values"])
    if value.get("") == "tensor":
        import torch

        return torch.from_numpy(value["values"].copy())
    if value.get("") == "csr":
        arrays = value["data"], value["indices"], value["indptr"]
        return csr_array(arrays, shape=tuple(value["shape"]))
    return {name: from_plain(v) for name, v in value.items()}


def _plain_strings(values: list[str]) -> dict[str, Any]:
    """Return strings as two arrays: some formats need 400 bytes for each string of a list."""
    code = np.frombuffer("".join(values).encode("utf-8", "surrogatepass"), np.uint8)
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    return {"": "strings", "utf8": code, "lengths": lengths}


def _strings(plain: dict[str, Any]) -> list[str]:
    """Return the strings that `_plain_strings` was given."""
    code, ends = plain["utf8"].tobytes(), np.cumsum(plain["lengths"]).tolist()
    text = code.decode("utf-8", "surrogatepass")
    return [text[start:end] for start, end in itertools.pairwise([0, *ends])]


def _plain_time(value: Any) -> dict[str, Any]:
    """Return a time of Python or NumPy, or of pandas without nanoseconds, as text or numbers."""
    if isinstance(value, (np.datetime64, np.timedelta64)):
        unit, _ = np.datetime_data(value.dtype)
        return {"": type(value).__name__, "values": [int(value.astype(np.int64)), unit]}
    if isinstance(value, timedelta):
        return {"": "timedelta", "values": [value.days, value.seconds, value.microseconds]}
    kind = "datetime" if isinstance(value, datetime) else "date"
    return {"": kind, "values": value.isoformat()}
