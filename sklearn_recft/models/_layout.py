"""Which arrays the state of a model has: types, shapes and ranges of codes, for files of others.

Compiled loops index arrays without a check of bounds, so a state that another program may have
written is checked before a model is made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft.models._state import from_plain

if TYPE_CHECKING:
    from sklearn_recft.models._base import FittedModel

_HABITS = {
    "user": "i4 n user", "item": "i4 n item", "strength": "f4 n", "time": "f8~ n",
    "basket": "f8~ U+", "repeats": "i8 I", "exposed": "i8 I",
    "again": "i4 n", "exposure": "i8 n",
}  # fmt: skip
_CONTEXT = {"mean": "f4 A", "context_weight": "f4 C", "context_*": "f8 C"}
# Of a table in few bits; the table itself checks that its arrays fit together.
_COMPACT = {"*_scales": "f4 ...", "*_changed": "i8 ...", "*_full": "f4 ..."}
_FACTORS = {
    "user_factors": "f4 U F", "user_bias": "f4 U", "user_count": "f4 U",
    "item_factors": "f4 I F", "item_bias": "f4 I", "item_count": "f4 I",
    **_CONTEXT,
}  # fmt: skip
# Layout of each part, and of the values of a model (`values`), by patterns of names. A rule is a
# type, one word for each axis, and the range of codes. U and I are the numbers of users and items,
# R is that of the side of the part, and other capital letters are as in an empty model. "U-" and
# "I-" are at most these: the loops that read such a table check bounds. Equal small letters are
# equal numbers. "..." are further axes. Codes "-user" and "-item" may be -1, and "item+" are
# larger by 1. Types with "~" may be NaN or infinite.
LAYOUTS: dict[str, dict[str, str]] = {
    "SeenItems": {"user": "i4 n user", "item": "i4 n item"},
    "EventHistory": {
        "user": "i4 n user", "item": "i4 n item", "feedback": "f4 n", "time": "f8 n",
    },
    "PairSums": {"user": "i4 n user", "item": "i4 n item", "*": "f8 n"},
    "FeedbackMatrix": {"data": "c16 n", "indices": "i* n", "indptr": "i* m"},
    "Habits": _HABITS,
    "HabitTerm": _HABITS,
    "MatrixFactorization": _FACTORS,
    "HistoryFactorization": {
        "user_factors": "f4 U G", "user_squares": "f4 U", "recent": "i4 U H item+",
        "item_factors": "f4 I F", "input_factors": "f4 I F", "item_squares": "f4 I",
        "input_squares": "f4 I", "item_count": "f4 I", "item_popularity": "f4 I",
    },
    "CompactFactorization": {
        "user_factors_codes": "* U F", "item_factors_codes": "* I F", **_COMPACT,
        "user_bias": "f4 U", "item_bias": "f4 I", "*_count": "f4 ...", **_CONTEXT,
    },
    "CompactFactors": {
        "user_factors_codes": "* U F", "item_factors_codes": "* I F", **_COMPACT,
    },
    "CompactHistory": {
        "user_factors_codes": "* U G", "item_factors_codes": "* I F",
        "input_factors_codes": "* I F", **_COMPACT,
        "recent": "i4 U H item+", "item_popularity": "f4 I", "*_squares": "f4 ...",
        "item_count": "f4 ...",
    },
    "SpeedMixture": {"progress": "f8 P", "means": "* M N"},
    "GaussianTable": {
        "sums": "f8 R S", "means": "f8 R D", "is_late": "b1 R", "times": "f8~ R",
        "covariances": "f8 V T", "moments": "f8 V S", "*prior/weights": "f8 k D",
        "*prior/*": "f8 D D", "unknown": "f8 D",
    },
    "SideFeatures": {
        "rows": "f8 r k", "known": "b1 r", "encodings/*": "* ...", "encoder/*": "* ...",
    },
    "ItemCounts": {"has_events": "b1 I", "*": "f8~ I"},
    "Trends": {
        "periods": "i8 p", "sizes": "i8 p", "item": "i4 n item", "count": "i4 n", "base": "f8 h b",
    },
    "Reservoir": {
        "rows/user": "i* n user", "rows/item": "i* n item", "rows/past": "i* n h -item",
        "rows/*": "*~ n ...",
    },
    "ReservoirWithoutIds": {  # rows may lack ids
        "rows/user": "i* n -user", "rows/item": "i* n -item", "rows/*": "*~ n ...",
    },
    "OnlineFeatures": {
        "tables/users": "f8~ U W", "tables/items": "f8~ I X", "before/users": "i* a user",
        "before/items": "i* b item", "before/tables/users": "f8~ a W",
        "before/tables/items": "f8~ b X", "*totals": "f8~ Y", "*tables/moments": "f8~ Z M",
        "tables/factorizations/*/user_factors": "f4 U F",
        "tables/factorizations/*/item_factors": "f4 I F",
        "tables/factorizations/*/user_*": "f4 U", "tables/factorizations/*/item_*": "f4 I",
        "before/*/user_factors": "f4 a F", "before/*/item_factors": "f4 b F",
        "before/*/user_*": "f4 a", "before/*/item_*": "f4 b",
        "*/mean": "f4 A", "*/context_weight": "f4 C", "*/context_*": "f8 C",
    },
    "QueryTerm": {"mean": "f8 M", "precision": "f8 M M"},
    "LexicalIndex": {
        "words/terms": "u8 a", "words/counts": "i8 a", "words/items": "i4 b item",
        "letters/terms": "u8 c", "letters/counts": "i8 c", "letters/items": "i4 d item",
        "untitled": "i8 e item",
    },
    "Activity": {"counts": "i8 U", "news": "i8 U", "last": "f8~ U", "first": "f8~ I"},
    "PairTimes": {"keys": "i8 n pair", "times": "f8~ n"},
    "Blend": {"places": "f8 T S P", "quality": "f8 Q", "log": "f8~ L M", "*": "f8 S F"},
    "Net": {**{f"module/{name}": rule for name, rule in _FACTORS.items()}, "optimizer/*": "*~ ..."},
    "CrossColumns": {
        "moments": "f8 T n", "cells/user_id/*": "*~ u ...", "cells/item_id/*": "*~ i ...",
        "vocabulary/ids": "* v ...", "vocabulary/*": "* ...", "scales/*/2": "f8 ...",
    },
    "CrossNetwork": {
        "net/module/users": "f4 U- d", "net/module/items": "f4 I- d",
        "net/module/values": "f4 v d",
        "net/*": "* ...",
    },
    "DecayNetwork": {
        "net/module/embedding": "f4 I d", "net/*": "* ...", "encoder/*": "* ...",
        "catalogue": "f4 I ...", "digests": "u8 I",
    },
    "SequenceNetwork": {
        "net/module/embedding": "f4 I d", "net/module/n_*": "f4~ I", "net/*": "* ...",
        "encoder/*": "* ...", "catalogue": "f4 I ...", "digests": "u8 I",
    },
    "CompactSequenceNetwork": {
        "net/module/embedding": "f4 w d", "net/module/n_*": "f4~ w", "net/*": "* ...",
        "encoder/*": "* ...", "catalogue_codes": "* I k", **_COMPACT,
    },
    "RandomStream": {"*": "u* ..."},
    "values": {
        "batches": "u8 b", "user_factors": "f4 U f", "item_factors": "f4 I f",
        "user_sums": "f8 T U", "item_sums": "f8 T I", "item_weights": "f4 I I", "weight": "f8 I",
        "popularity": "f8 I", "recent": "f8~ r Q", "moments": "f8~ M", "mean_moments": "f8 m",
        "clock": "f8~ C", "sample": "i4 n item", "newest": "f8~ *", "relation_weights/*": "* ...",
    },
}  # fmt: skip
# Settings that are sizes of arrays.
_SIZES = {
    "n_factors", "width", "n_layers", "n_heads", "max_history", "embedding_dim", "hidden",
    "n_threads", "dim", "rank", "n_candidates",
}  # fmt: skip
_EVENTS = "n_events"  # a size of the log, of which no array is made
_LARGEST = 1 << 20
_FREE = 1 << 27


@dataclass
class _Sizes:
    """Numbers that axes are compared with: those of the model, and those bound so far."""

    n_users: int
    n_items: int
    side: int
    of_items: bool
    bound: dict[str, int] = field(default_factory=dict)

    def of(self, word: str) -> int | None:
        known = {
            "U": self.n_users,
            "I": self.n_items,
            "R": self.side,
            "V": self.side if self.of_items else 0,
        }
        return known.get(word, self.bound.get(word))

    def limits(self, code: str) -> tuple[int, int]:
        """Return the smallest and the largest code."""
        n = self.n_users if code.endswith("user") else self.n_items
        return -code.startswith("-"), n - (code != "item+")


def check_sizes(settings: Any, n_bytes: int) -> None:
    """Check settings, or a dict of sizes, before arrays of these sizes are made.

    Raises
    ------
    ValueError
        If an array would be much larger than all arrays of the state.
    """
    found = [1, 1]
    given = settings if isinstance(settings, Mapping) else vars(settings)
    n_events = given.get(_EVENTS, 0)
    if not isinstance(n_events, int) or not 0 <= n_events < 1 << 62:
        raise ValueError(f"{_EVENTS}={n_events} is not possible")
    for name, value in given.items():
        if name in _SIZES or (isinstance(settings, Mapping) and name != _EVENTS):
            values = value if isinstance(value, (list, tuple)) else [value]
            found += [v for v in values if isinstance(v, int)]
    largest = sorted(found)[-2:]
    if min(found) < -1 or largest[1] > max(_LARGEST, n_bytes):
        raise ValueError(f"sizes from {min(found)} to {largest[1]} are not possible")
    if largest[0] * largest[1] > _FREE + n_bytes:
        raise ValueError(f"sizes of {largest[0]} and {largest[1]} are too large for this state")


def size_of(state: Any) -> int:
    """Return the number of bytes of the arrays of a state."""
    return sum(array.nbytes for _, array in _arrays(state) if isinstance(array, np.ndarray))


def check_model_state(empty: FittedModel, state: Any) -> None:
    """Check a state before it is loaded into an empty model.

    Parameters
    ----------
    empty : FittedModel
        Made of no rows, with the settings of the state.
    state : dict
        What `FittedModel.state` returned, perhaps changed by another program.

    Raises
    ------
    ValueError
        If an array is not as `LAYOUTS` says, or is not in it.
    """
    if set(state) != {"kind", "parts", "shared", "values"} or state["kind"] != empty.kind:
        raise ValueError(f"this is not the state of a {empty.kind}")
    own, held = empty.parts(), vars(empty)
    if set(state["parts"]) != set(own) or set(state["values"]) - set(held):
        raise ValueError(f"a {empty.kind} has other parts or values")
    if any(name not in held or first not in own for name, first in state["shared"].items()):
        raise ValueError(f"a {empty.kind} has other names of parts")
    parts = {name: from_plain(plain) for name, plain in state["parts"].items()}
    sizes = [_n_ids(parts[name]) for name in ("users", "items")]
    for name, part in own.items():
        kind = type(part).__name__
        if kind == "Reservoir" and not getattr(empty.settings, "use_ids", True):
            kind = "ReservoirWithoutIds"
        if kind == "Members":
            for place, member in enumerate(getattr(part, "models", ())):
                check_model_state(member, state["parts"][name][str(place)])
        elif kind != "Vocabulary":
            _check_part(name, kind, parts[name], part.state() if is_made(part) else {}, *sizes)
    values = {name: from_plain(plain) for name, plain in state["values"].items()}
    _check_part("values", "values", values, held, *sizes)


def is_made(part: Any) -> bool:
    """Whether a part has a state before the first rows; a net has none."""
    return getattr(part, "is_built", True)


def _n_ids(state: Any) -> int:
    """Return the number of ids, which are a list or an array with one axis."""
    ids = state["ids"]
    if isinstance(ids, np.ndarray) and (ids.ndim != 1 or ids.dtype.kind not in "iO"):
        raise ValueError(f"ids: an array of type {ids.dtype} and shape {ids.shape}")
    return len(ids)


def _check_part(name: str, kind: str, state: Any, empty: Any, n_users: int, n_items: int) -> None:
    """Check the arrays of a part, or of a model itself ("values"); ``empty`` is before any rows."""
    of_items = name.startswith("item")
    sizes = _Sizes(n_users, n_items, n_items if of_items else n_users, of_items)
    rules = LAYOUTS.get(kind, {})
    for path, array in _arrays(empty):
        if isinstance(array, np.ndarray):
            _bind(_rule(rules, path), array, sizes)
    for path, array in _arrays(state):
        where = f"{name}.{path.replace('/', '.')}"
        if isinstance(array, csr_array):
            _check_matrix(where, array, n_items)
        else:
            _check_array(where, array, _rule(rules, path), sizes)
    if kind == "FeedbackMatrix":
        _check_feedback(name, state, n_users, n_items)
    if kind.startswith("Reservoir"):
        _check_reservoir(name, state)
    if kind != "FeedbackMatrix" and isinstance(state.get("shape"), Mapping):
        check_sizes(state["shape"], size_of(state))


def _arrays(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over all arrays and matrices of a state, with their paths."""
    if isinstance(value, (np.ndarray, csr_array)):
        yield path, value
    elif type(value).__module__.startswith("torch"):
        yield path, value.detach().numpy()
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _arrays(inner, f"{path}/{name}" if path else str(name))
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            yield from _arrays(inner, f"{path}/{place}")


def _rule(rules: Mapping[str, str], path: str) -> list[str] | None:
    """Return the first rule for a path."""
    found = next((rule for name, rule in rules.items() if fnmatchcase(path, name)), None)
    return None if found is None else found.split()


def _axes(rule: list[str]) -> tuple[list[str], str | None]:
    """Return the words for axes, and the range of codes if there is one."""
    last = rule[-1]
    is_range = last in ("user", "item", "-user", "-item", "item+", "pair")
    return (rule[1:-1], last) if is_range else (rule[1:], None)


def _bind(rule: list[str] | None, array: np.ndarray, sizes: _Sizes) -> None:
    """Remember the numbers of an array of an empty model that are capital letters."""
    words, _ = _axes(rule) if rule else ([], None)
    for word, n in zip(words, array.shape, strict=False):
        if word.isupper() and word not in "UIRV":
            sizes.bound.setdefault(word, n)


def _check_array(where: str, array: np.ndarray, rule: list[str] | None, sizes: _Sizes) -> None:
    if rule is None:
        raise ValueError(f"{where}: this model has no such array")
    words, code = _axes(rule)
    dtype = array.dtype.str[1:]
    if not fnmatchcase(dtype, rule[0].rstrip("~")):
        raise ValueError(f"{where}: its type is {array.dtype}, and must be {rule[0]}")
    is_open_float = rule[0].endswith("~") or isinstance(array, np.memmap)
    if array.dtype.kind in "fc" and not is_open_float and not _is_finite(array):
        raise ValueError(f"{where}: it has values that are not finite")
    is_open = words[-1:] == ["..."]
    words = words[: -1 if is_open else None]
    if array.ndim < len(words) or (array.ndim > len(words) and not is_open):
        raise ValueError(f"{where}: its shape is {array.shape}, and must be ({', '.join(words)})")
    for word, n in zip(words, array.shape, strict=False):
        _check_axis(where, word, n, sizes)
    if code is not None:
        _check_codes(where, array, code, sizes)


def _is_finite(array: np.ndarray) -> bool:
    """Whether all values are finite: so they are if their sum is, which takes no memory."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def _check_axis(where: str, word: str, n: int, sizes: _Sizes) -> None:
    if word == "U+":
        if not sizes.n_users <= n <= 4 * sizes.n_users + 64:
            raise ValueError(f"{where}: it has {n} rows for {sizes.n_users} users")
        return
    if word in ("U-", "I-"):
        most = sizes.n_users if word == "U-" else sizes.n_items
        if n > most:
            raise ValueError(f"{where}: it has {n} rows, and may have {most}")
        return
    wanted = sizes.of(word)
    if wanted is None:
        sizes.bound[word] = n
    elif wanted != n:
        raise ValueError(f"{where}: it has {n} rows or columns, and must have {wanted}")


def _check_codes(where: str, array: np.ndarray, code: str, sizes: _Sizes) -> None:
    """Check that codes are those of known users or items."""
    if code == "pair":
        _check_codes(where, array >> 32, "user", sizes)
        _check_codes(where, array & 0xFFFFFFFF, "item", sizes)
        return
    if not array.size:
        return
    low, high = sizes.limits(code)
    if int(array.min()) < low or int(array.max()) > high:
        raise ValueError(
            f"{where}: codes are from {array.min()} to {array.max()}, and must be from {low} to "
            f"{high}"
        )


def _check_matrix(where: str, matrix: csr_array, n_items: int) -> None:
    if matrix.shape != (n_items, n_items) or matrix.dtype != np.float32:
        raise ValueError(f"{where}: a matrix of {matrix.shape}, and must be of {n_items} items")
    if not _is_finite(matrix.data):
        raise ValueError(f"{where}: it has values that are not finite")
    matrix.check_format(full_check=True)


def _check_feedback(name: str, state: Mapping[str, Any], n_users: int, n_items: int) -> None:
    shape = tuple(state["shape"])
    if len(shape) != 2 or not 0 <= shape[0] <= n_users or not 0 <= shape[1] <= n_items:
        raise ValueError(f"{name}: its shape is {shape}, with {n_users} users and {n_items} items")
    arrays = state["data"], state["indices"], state["indptr"]
    csr_array(arrays, shape=shape).check_format(full_check=True)


def _check_reservoir(name: str, state: Mapping[str, Any]) -> None:
    capacity, n_offered = int(state["capacity"]), int(state["n_offered"])
    if min(capacity, n_offered) < 0:
        raise ValueError(f"{name}: it has a negative size")
    held = {len(column) for column in state["rows"].values()}
    if held - {min(capacity, n_offered)}:
        raise ValueError(f"{name}: it has {held} rows, and must have {min(capacity, n_offered)}")
