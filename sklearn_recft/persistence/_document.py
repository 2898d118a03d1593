"""Estimators as JSON and arrays: objects are named by their kind, and no code is stored."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator

from sklearn_recft.persistence._kinds import class_of, kind_of, name_of_type, type_of_name
from sklearn_recft.persistence._tensors import can_hold

# Attributes that are made again when they are missing.
_TRANSIENT = ("_valid", "_sklearn_version")
_MAX_DEPTH = 100


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


class Encoder:
    """Write values to a `Document`.

    A value that is not plain becomes an object of one key, which says what it is: ``{"tuple":
    [...]}``, ``{"array": name}``, ``{"kind": name, "state": ...}``.
    """

    def __init__(self) -> None:
        self.document = Document()
        self._numbers: dict[int, int | None] = {}
        self._alive: list[Any] = []  # a number is that of one object only while that one lives

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
        if type(value) is list:
            return [self.encode(v, f"{path}[{i}]", f"{where}.{i}") for i, v in enumerate(value)]
        for kind, method in _ENCODERS:
            if isinstance(value, kind):
                return method(self, value, path, where)
        return self._encode_object(value, path, where)

    def _encode_tuple(self, value: tuple, path: str, where: str) -> Any:
        return {"tuple": self.encode(list(value), path, where)}

    def _encode_set(self, value: Any, path: str, where: str) -> Any:
        return {"set": self.encode(sorted(value, key=repr), path, where)}

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
            codes = np.ascontiguousarray(value).reshape(-1).view(np.uint32)
            return {"text": self._add(codes, where), "dtype": dtype.str, "shape": list(value.shape)}
        if dtype.kind in "Mm":
            found = self._add(value.astype(np.int64), where)
            return {"time": found, "dtype": dtype.str}
        if dtype == np.complex128:
            pairs = np.ascontiguousarray(value)[..., None].view(np.float64)
            return {"complex": self._add(pairs, where)}
        if not can_hold(value):
            raise TypeError(f"{path}: an array of type {dtype} cannot be saved.")
        n_events = _counts(value)
        if n_events is not None:
            name = self._add(n_events, where)
            return {"ascending": name, "dtype": dtype.newbyteorder("<").str, "size": len(value)}
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
        state = self.encode(_state_of(value), f"{path}" if path else "model", where)
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


class Decoder:
    """Read the value of a `Document`.

    Raises
    ------
    ValueError
        If it is not what `Encoder` writes.
    """

    def __init__(self, document: Document) -> None:
        self._root = document.root
        self._arrays = dict(document.arrays)
        # An array of the file never becomes larger than all of the file.
        self._limit = sum(array.nbytes for array in document.arrays.values()) + 1024
        self._made: list[Any] = []
        self._depth = 0

    def decode(self) -> Any:
        """Return the value; all arrays must be used."""
        value = self._decode(self._root)
        if self._arrays:
            raise ValueError(f"arrays {sorted(self._arrays)[:3]} are not used")
        return value

    def _decode(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._decode(n) for n in node]
        if not isinstance(node, dict):
            return node
        tag = next((name for name in node if name in _DECODERS), None)
        if tag is None or set(node) != {tag, *_WITH.get(tag, ())} - self._missing(tag, node):
            raise ValueError(f"a node has the keys {sorted(node)[:5]}")
        if self._depth >= _MAX_DEPTH:
            raise ValueError("values are nested too deeply")
        self._depth += 1
        found = _DECODERS[tag](self, node)
        self._depth -= 1
        return found

    def _missing(self, tag: str, node: dict[str, Any]) -> set[str]:
        """Return the keys that may be left out, and are."""
        return {"order"} - set(node) if tag == "dict" else set()

    def _take(self, name: Any) -> np.ndarray:
        if not isinstance(name, str) or name not in self._arrays:
            raise ValueError(f"the array {name!r} is not there, or is used twice")
        return self._arrays.pop(name)

    def _items(self, node: Any) -> list[Any]:
        if not isinstance(node, list):
            raise ValueError("a list of values is something else")
        return [self._decode(n) for n in node]

    def _float(self, node: dict[str, Any]) -> float:
        if node["float"] not in ("nan", "inf", "-inf"):
            raise ValueError(f"{node['float']!r} is no number")
        return float(node["float"])

    def _tuple(self, node: dict[str, Any]) -> tuple:
        return tuple(self._items(node["tuple"]))

    def _set(self, node: dict[str, Any]) -> set:
        return set(self._items(node["set"]))

    def _range(self, node: dict[str, Any]) -> range:
        return range(*node["range"])

    def _dict(self, node: dict[str, Any]) -> dict:
        listed = node["dict"]
        names = node.get("order", sorted(listed))
        if len(names) != len(listed):
            raise ValueError("the order of a dict is not that of its keys")
        return {name: self._decode(listed[name]) for name in names}

    def _pairs(self, node: dict[str, Any]) -> dict:
        keys, values = self._items(node["keys"]), self._items(node["to"])
        found = dict(zip(keys, values, strict=True))
        if len(found) < len(keys):
            raise ValueError("a key is there twice")
        return found

    def _bytes(self, node: dict[str, Any]) -> bytes:
        return base64.b64decode(node["bytes"], validate=True)

    def _datetime(self, node: dict[str, Any]) -> datetime:
        return datetime.fromisoformat(node["datetime"]).replace(fold=node["fold"])

    def _date(self, node: dict[str, Any]) -> date:
        return date.fromisoformat(node["date"])

    def _timedelta(self, node: dict[str, Any]) -> timedelta:
        return timedelta(*node["timedelta"])

    def _scalar(self, node: dict[str, Any]) -> Any:
        array = self._decode(node["scalar"])
        if array.shape != ():
            raise ValueError("a scalar is an array")
        return array[()]

    def _array(self, node: dict[str, Any]) -> np.ndarray:
        return self._take(node["array"])

    def _ascending(self, node: dict[str, Any]) -> np.ndarray:
        counts, dtype, size = self._take(node["ascending"]), np.dtype(node["dtype"]), node["size"]
        if counts.dtype != np.int32 or counts.ndim != 1 or counts.min(initial=0) < 0:
            raise ValueError("counts of an ascending array are not counts")
        if dtype.kind not in "iu" or not isinstance(size, int) or int(counts.sum()) != size:
            raise ValueError("an ascending array has another size")
        if size * dtype.itemsize > 2 * self._limit:
            raise ValueError("an ascending array is larger than all other arrays")
        return np.repeat(np.arange(len(counts), dtype=dtype), counts)

    def _objects(self, node: dict[str, Any]) -> np.ndarray:
        values = self._items(node["objects"])
        found = np.empty(len(values), object)
        found[:] = values
        return found.reshape(node["shape"])

    def _text(self, node: dict[str, Any]) -> np.ndarray:
        codes, dtype = self._take(node["text"]), np.dtype(node["dtype"])
        if codes.dtype != np.uint32 or dtype.kind != "U" or codes.max(initial=0) > 0x10FFFF:
            raise ValueError("a text is not one")
        if not dtype.itemsize:
            return np.empty(node["shape"], dtype)
        return codes.view(dtype).reshape(node["shape"])

    def _time(self, node: dict[str, Any]) -> np.ndarray:
        dtype = np.dtype(node["dtype"])
        if dtype.kind not in "Mm":
            raise ValueError(f"{dtype} is no type of times")
        return self._take(node["time"]).astype(dtype)

    def _complex(self, node: dict[str, Any]) -> np.ndarray:
        pairs = self._take(node["complex"])
        if pairs.dtype != np.float64 or pairs.shape[-1:] != (2,):
            raise ValueError("complex numbers are not pairs")
        return pairs.view(np.complex128)[..., 0]

    def _tensor(self, node: dict[str, Any]) -> Any:
        import torch

        return torch.from_numpy(np.array(self._decode(node["tensor"])))

    def _csr(self, node: dict[str, Any]) -> csr_array:
        parts = [self._decode(node["csr"][name]) for name in ("data", "indices", "indptr")]
        found = csr_array(tuple(parts), shape=tuple(node["shape"]))
        found.check_format(full_check=True)
        return found

    def _type(self, node: dict[str, Any]) -> type:
        return type_of_name(node["type"])

    def _ref(self, node: dict[str, Any]) -> Any:
        if type(node["ref"]) is not int or not 0 <= node["ref"] < len(self._made):
            raise ValueError(f"there is no object {node['ref']!r}")
        return self._made[node["ref"]]

    def _object(self, node: dict[str, Any]) -> Any:
        cls = class_of(node["kind"])
        state = self._decode(node["state"])
        if not isinstance(state, dict):
            raise ValueError(f"the state of a {cls.__name__} is not a dict")
        made = _make(cls, state)
        self._made.append(made)
        return made


_DECODERS: dict[str, Any] = {
    "array": Decoder._array,
    "ascending": Decoder._ascending,
    "bytes": Decoder._bytes,
    "complex": Decoder._complex,
    "csr": Decoder._csr,
    "date": Decoder._date,
    "datetime": Decoder._datetime,
    "dict": Decoder._dict,
    "float": Decoder._float,
    "keys": Decoder._pairs,
    "kind": Decoder._object,
    "objects": Decoder._objects,
    "range": Decoder._range,
    "ref": Decoder._ref,
    "scalar": Decoder._scalar,
    "set": Decoder._set,
    "tensor": Decoder._tensor,
    "text": Decoder._text,
    "time": Decoder._time,
    "timedelta": Decoder._timedelta,
    "tuple": Decoder._tuple,
    "type": Decoder._type,
}
# Keys beside the one that says what a node is.
_WITH = {
    "ascending": ("dtype", "size"),
    "csr": ("shape",),
    "datetime": ("fold",),
    "dict": ("order",),
    "keys": ("to",),
    "kind": ("state",),
    "objects": ("shape",),
    "text": ("dtype", "shape"),
    "time": ("dtype",),
}


def _counts(value: np.ndarray) -> np.ndarray | None:
    """Return how often each number is in an ascending array, if that takes at most half the bytes.

    Users of events and pairs are stored in their order.
    """
    if value.ndim != 1 or value.dtype.kind not in "iu" or len(value) < 64 or value[0] < 0:
        return None
    if 2 * (int(value[-1]) + 1) > len(value) or not (value[1:] >= value[:-1]).all():
        return None
    return np.bincount(value).astype(np.int32)


def _makes_own_state(cls: type) -> bool:
    """Whether a class of this package says itself what its state is."""
    own = (base for base in cls.__mro__ if base.__module__.startswith("sklearn_recft."))
    return any("__getstate__" in vars(base) for base in own)


def _state_of(value: Any) -> dict[str, Any]:
    """Return the state of an object of the registry."""
    if _makes_own_state(type(value)):
        return {"state": value.__getstate__()}
    if isinstance(value, BaseEstimator):
        parameters = value.get_params(deep=False)
        return {"parameters": parameters, **_others(value, parameters)}
    if is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    return dict(vars(value))


def _others(value: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what an estimator has learned."""
    held = vars(value).items()
    fitted = {n: v for n, v in held if n not in parameters and n not in _TRANSIENT}
    return {"fitted": fitted} if fitted else {}


def _make(cls: type, state: dict[str, Any]) -> Any:
    """Return the object whose state this is."""
    if _makes_own_state(cls):
        made = object.__new__(cls)
        made.__setstate__(state["state"])  # type: ignore[attr-defined]
        return made
    if issubclass(cls, BaseEstimator):
        return _make_estimator(cls, **state)
    made = object.__new__(cls)
    names = {one.name for one in fields(cls)} if is_dataclass(cls) else set(state)
    if set(state) != names:
        raise ValueError(f"a {cls.__name__} has {sorted(names)}, and not {sorted(state)}")
    vars(made).update(state)
    return made


def _make_estimator(cls: Any, parameters: Any, fitted: Any = None) -> Any:
    made = cls(**parameters)
    fitted = fitted or {}
    hidden = sorted(name for name in fitted if callable(getattr(cls, name, None)))
    if hidden:
        raise ValueError(f"a {cls.__name__} has methods {hidden}, which no value can replace")
    vars(made).update(fitted)
    return made


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


def iterate_kinds(node: Any) -> Iterator[str]:
    """Iterate over the kinds in a document."""
    if isinstance(node, dict):
        if isinstance(node.get("kind"), str) and set(node) == {"kind", "state"}:
            yield node["kind"]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from iterate_kinds(part)
