"""Values of JSON and arrays, with every node checked before it is used."""

from __future__ import annotations

import base64
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft.persistence._encoder import MAX_DEPTH, Document
from sklearn_recft.persistence._kinds import class_of, type_of_name
from sklearn_recft.persistence._objects import make


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
        self._limit = document.limit()
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
        if self._depth >= MAX_DEPTH:
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

    def _frozenset(self, node: dict[str, Any]) -> frozenset:
        return frozenset(self._items(node["frozenset"]))

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

    def _narrow(self, node: dict[str, Any]) -> np.ndarray:
        array, dtype = self._take(node["narrow"]), np.dtype(node["dtype"])
        if array.dtype.kind not in "iu" or dtype.kind not in "iu" or not array.dtype < dtype:
            raise ValueError(f"integers of type {array.dtype} cannot become {dtype}")
        return array.astype(dtype)

    def _ascending(self, node: dict[str, Any]) -> np.ndarray:
        counts, dtype, size = self._take(node["ascending"]), np.dtype(node["dtype"]), node["size"]
        if counts.dtype != np.int32 or counts.ndim != 1 or counts.min(initial=0) < 0:
            raise ValueError("counts of an ascending array are not counts")
        if dtype.kind not in "iu" or not isinstance(size, int) or int(counts.sum()) != size:
            raise ValueError("an ascending array has another size")
        if size * dtype.itemsize > self._limit:
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
        made = make(cls, state)
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
    "frozenset": Decoder._frozenset,
    "keys": Decoder._pairs,
    "kind": Decoder._object,
    "narrow": Decoder._narrow,
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
    "narrow": ("dtype",),
    "objects": ("shape",),
    "text": ("dtype", "shape"),
    "time": ("dtype",),
}
