"""Named arrays of a record, and how two records differ: to the bit."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

LARGE = 60_000  # numbers; of more a digest and a sample are kept
N_SAMPLED = 5_000
NETS = ("net_", "module_")
NOT_RECORDED = ("batches", "epoch", "dur", "train_batch_count", "valid_batch_count")
NUMBERS = (int, float, bool, np.number, np.bool_)
Record = dict[str, np.ndarray]


class Store:
    """Collect arrays by name; a name has its case, its stage and what it is."""

    def __init__(self) -> None:
        self.arrays: Record = {}

    def put(self, key: str, value: Any) -> None:
        """Add a value as an array."""
        array = plain(value)
        if key in self.arrays or f"{key}#digest" in self.arrays:
            raise KeyError(f"{key} is recorded twice")
        if array.size <= LARGE:
            self.arrays[key] = array
            return
        digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16)
        text = f"{array.dtype} {array.shape} {digest.hexdigest()}"
        self.arrays[f"{key}#digest"] = np.array(text)
        self.arrays[f"{key}#sample"] = array.ravel()[:: array.size // N_SAMPLED + 1].copy()

    def put_fitted(self, tag: str, model: Any) -> None:
        """Add every public fitted attribute, every tensor of a module, and what a net logged."""
        kind = type(model)
        names = {name for name in dir(kind) if isinstance(getattr(kind, name, None), property)}
        for name in sorted(names | set(vars(model))):
            if name.endswith("_") and not name.startswith("_") and name not in NETS:
                self._put_attribute(f"{tag}/{name}", getattr(model, name, None))
        if (module := getattr(model, "module_", None)) is not None:
            for name, tensor in sorted(module.state_dict().items()):
                self.put(f"{tag}/module_/{name}", tensor.detach().cpu().numpy())
        if (net := getattr(model, "net_", None)) is not None:
            self._put_history(f"{tag}/history", net.history)

    def _put_attribute(self, key: str, value: Any) -> None:
        if hasattr(value, "indptr"):  # a sparse matrix
            for part in ("data", "indices", "indptr"):
                self.put(f"{key}.{part}", getattr(value, part))
        elif value is not None:
            self.put(key, value)

    def _put_history(self, tag: str, history: list[dict[str, Any]]) -> None:
        for name in sorted({name for epoch in history for name in epoch} - set(NOT_RECORDED)):
            values = [epoch.get(name, np.nan) for epoch in history]
            if all(isinstance(value, NUMBERS) for value in values):
                self.put(f"{tag}/{name}", np.array(values, np.float64))


def plain(value: Any) -> np.ndarray:
    """Return an array without objects; an object is recorded by its type and text."""
    array = np.array(value)
    if array.dtype.kind != "O":
        return array
    texts = [f"{type(one).__name__}:{one}" for one in array.ravel().tolist()]
    return np.array(texts, dtype=np.str_).reshape(array.shape)


# --------------------------------------------------------------------- comparing


def read(path: Path) -> Record:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def difference(a: np.ndarray, b: np.ndarray) -> str | None:
    """Describe how two arrays differ; None if they are the same to the bit."""
    texts = a.dtype.kind == b.dtype.kind == "U"
    if a.dtype != b.dtype and not texts:
        return f"dtype {a.dtype} | {b.dtype}"
    if a.shape != b.shape:
        return f"shape {a.shape} | {b.shape}"
    if texts:
        unequal = np.argwhere(a != b)
        if not len(unequal):
            return None
        place = tuple(unequal[0])
        return f"{len(unequal)} of {a.size} texts, first {a[place]} | {b[place]}"
    if a.tobytes() == b.tobytes():
        return None
    x, y = a.astype(np.float64), b.astype(np.float64)
    gap = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    largest = np.inf if np.isnan(gap).any() else float(gap.max())
    return f"max abs difference {largest:.3g} in {int((gap != 0).sum())} of {a.size}"


def renamed(a: Record, b: Record) -> dict[str, str]:
    """Pair arrays that only one record has, if case, stage and content are the same."""

    def content(key: str, array: np.ndarray) -> tuple:
        return key.split("/")[:2], str(array.dtype), array.shape, array.tobytes()

    free = [(key, content(key, b[key])) for key in b if key not in a]
    pairs = {}
    for key in (key for key in a if key not in b):
        own = content(key, a[key])
        place = next((n for n, (_, other) in enumerate(free) if other == own), None)
        if place is not None:
            pairs[key] = free.pop(place)[0]
    return pairs


def compare(a: Record, b: Record, *, quiet: bool = False, allow_renamed: bool = False) -> int:
    """Print how two records differ; return 1 if they do, else 0.

    With ``quiet`` identical arrays are not printed. With ``allow_renamed`` an array that only has
    another name is no difference.
    """
    counts: Counter[str] = Counter()
    cases: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for key in (key for key in a if key in b):
        found = difference(a[key], b[key])
        kind = "identical" if found is None else "different"
        counts[kind] += 1
        cases[key.split("/")[0]][kind] += 1
        if found is not None or not quiet:
            print(f"{kind}: {key}" + ("" if found is None else f": {found}"))
    pairs = renamed(a, b)
    counts["renamed"] = len(pairs)
    for key, other in pairs.items():
        print(f"renamed: {key} -> {other}")
    for name, own, other in (
        ("only in A", a, {*b, *pairs}), ("only in B", b, {*a, *pairs.values()})
    ):  # fmt: skip
        alone = [key for key in own if key not in other]
        counts[name] = len(alone)
        for key in alone:
            print(f"{name}: {key} {own[key].shape}")
    for key in sorted(key for key in {*a, *b} if key.endswith("/ERROR")):
        counts["errors"] += 1
        print(f"error: {key}: {a.get(key, b.get(key))}")
    for name, its in cases.items():
        if its["different"]:
            print(f"case {name}: {its['different']} different, {its['identical']} identical")
    print(", ".join(f"{number} {kind}" for kind, number in counts.items()))
    differ = sum(number for kind, number in counts.items() if kind not in ("identical", "renamed"))
    return int(bool(differ or (counts["renamed"] and not allow_renamed)))
