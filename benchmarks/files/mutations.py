"""Damage saved models: every way that a file of another program may be wrong."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from sklearn_recft.persistence import inspect, load

HUGE = 10 * 2**30


class Copy:
    """A copy of a saved folder, to be damaged.

    Attributes
    ----------
    rehash : bool
        Whether the manifest gets the hashes and sizes of the damaged files.
    """

    def __init__(self, source, folder, rng, *, rehash):
        self.folder, self.rng, self.rehash = Path(folder), rng, rehash
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        self.manifest = json.loads(self.path("MANIFEST.json").read_text())

    def path(self, name):
        return self.folder / name

    def file(self, role):
        return self.path(self.manifest["files"][role]["name"])

    def write(self, role, data):
        """Replace a file; the manifest follows if it may."""
        self.file(role).write_bytes(data)
        if self.rehash:
            entry = self.manifest["files"][role]
            entry["sha256"], entry["size"] = hashlib.sha256(data).hexdigest(), len(data)
            self.write_manifest()

    def write_manifest(self, **changes):
        manifest = {**self.manifest, **changes}
        hashes = {role: entry.get("sha256") for role, entry in manifest["files"].items()}
        canonical = json.dumps(
            [manifest["format"], manifest["kind"], hashes], separators=(",", ":"), sort_keys=True
        )
        manifest["digest"] = hashlib.sha256(canonical.encode()).hexdigest()
        self.path("MANIFEST.json").write_text(json.dumps(manifest))

    def document(self):
        return json.loads(self.file("model").read_bytes())

    def write_document(self, document):
        self.write("model", json.dumps(document).encode())

    def tensors(self):
        """Return the header of the arrays, and their data."""
        raw = self.file("tensors").read_bytes()
        length = int.from_bytes(raw[:8], "little")
        return json.loads(raw[8 : 8 + length]), raw[8 + length :]

    def write_tensors(self, header, data):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        self.write("tensors", len(text).to_bytes(8, "little") + text + data)

    def replace_array(self, change):
        """Replace a random array by ``change(array, rng)``."""
        header, data = self.tensors()
        names = sorted(header)
        name = names[self.rng.integers(len(names))]
        arrays = {n: _array(entry, data) for n, entry in header.items()}
        changed = np.ascontiguousarray(change(arrays[name], self.rng))
        same = changed.dtype == arrays[name].dtype and changed.shape == arrays[name].shape
        if same and changed.tobytes() == arrays[name].tobytes():
            return False
        arrays[name] = changed
        begin, entries, blocks = 0, {}, []
        for key in header:
            block = arrays[key].tobytes()
            kind = _KINDS[arrays[key].dtype]
            offsets = [begin, begin + len(block)]
            entries[key] = {
                "dtype": kind, "shape": list(arrays[key].shape), "data_offsets": offsets,
            }  # fmt: skip
            begin += len(block)
            blocks.append(block)
        self.write_tensors(entries, b"".join(blocks))
        return True


_TYPES = {
    "BOOL": bool, "U8": "u1", "I8": "i1", "U16": "u2", "I16": "i2", "F16": "f2", "U32": "u4",
    "I32": "i4", "F32": "f4", "U64": "u8", "I64": "i8", "F64": "f8",
}  # fmt: skip
_KINDS = {np.dtype(value): name for name, value in _TYPES.items()}


def _array(entry, data):
    begin, end = entry["data_offsets"]
    return np.frombuffer(data[begin:end], _TYPES[entry["dtype"]]).reshape(entry["shape"])


# ------------------------------------------------------------------ damage; all return None, or
# False where this copy cannot be damaged so


def truncated(copy):
    path = copy.file(("model", "tensors")[copy.rng.integers(2)])
    data = path.read_bytes()
    role = "model" if path.suffix == ".json" else "tensors"
    copy.write(role, data[: copy.rng.integers(len(data))])


def truncated_manifest(copy):
    path = copy.path("MANIFEST.json")
    data = path.read_bytes()
    path.write_bytes(data[: copy.rng.integers(len(data) - 2)])


def flipped(copy):
    role = ("model", "tensors")[copy.rng.integers(2)]
    data = bytearray(copy.file(role).read_bytes())
    data[copy.rng.integers(len(data))] ^= 1 << copy.rng.integers(8)
    copy.write(role, bytes(data))


def longer(copy):
    role = ("model", "tensors")[copy.rng.integers(2)]
    copy.write(role, copy.file(role).read_bytes() + b"\0" * int(copy.rng.integers(1, 100)))


def huge_header(copy):
    data = copy.file("tensors").read_bytes()
    length = [HUGE, 2**63, 2**64 - 1, len(data), 0, 1][copy.rng.integers(6)]
    copy.write("tensors", length.to_bytes(8, "little") + data[8:])


def huge_array(copy):
    header, data = copy.tensors()
    name = sorted(header)[copy.rng.integers(len(header))]
    header[name]["shape"] = [[HUGE], [HUGE, HUGE], [2**62, 4], [-1], [1.5], ["1"]][
        copy.rng.integers(6)
    ]
    copy.write_tensors(header, data)


def offsets(copy):
    header, data = copy.tensors()
    name = sorted(header)[copy.rng.integers(len(header))]
    begin, end = header[name]["data_offsets"]
    header[name]["data_offsets"] = [
        [begin + 1, end + 1], [-1, end - begin - 1], [end, begin - 1], [HUGE, HUGE + end - begin],
        [begin], ["0", "1"], [begin, end + 8],
    ][copy.rng.integers(7)]  # fmt: skip
    copy.write_tensors(header, data)


def unknown_type(copy):
    header, data = copy.tensors()
    name = sorted(header)[copy.rng.integers(len(header))]
    header[name]["dtype"] = ["F8_E4M3", "O", "C128", 3, None][copy.rng.integers(5)]
    copy.write_tensors(header, data)


def key_twice(copy):
    header, data = copy.tensors()
    text = json.dumps(header)
    name = sorted(header)[copy.rng.integers(len(header))]
    entry = f"{json.dumps(name)}: {json.dumps(header[name])}, "
    copy.write_tensors(("{" + entry + text[1:]).encode(), data)


def json_key_twice(copy):
    text = copy.file("model").read_text()
    copy.write("model", text.replace('{"kind":', '{"kind":"EASERecommender","kind":', 1).encode())


def deep_json(copy):
    n = int(copy.rng.choice([200, 100_000]))
    copy.write("model", b"[" * n + b"]" * n)


def nan_json(copy):
    text = copy.file("model").read_text()
    copy.write("model", text.replace(":null", ":NaN", 1).replace(":[]", ":Infinity", 1).encode())
    return None if "NaN" in copy.file("model").read_text() else False


def outside(copy):
    role = ("model", "tensors")[copy.rng.integers(2)]
    name = copy.manifest["files"][role]["name"]
    copy.manifest["files"][role]["name"] = [
        f"../{copy.folder.name}/{name}", f"/etc/{name}", f"./{name}", f"{name}\0", "", None,
        f"x/../{name}", copy.folder.as_posix() + f"/{name}",
    ][copy.rng.integers(8)]  # fmt: skip
    copy.write_manifest()


def manifest_values(copy):
    changes = [
        {"format": 2}, {"format": "1"}, {"kind": "os.system"}, {"kind": "NoRecommender"},
        {"kind": ["a"]}, {"seq": -1}, {"seq": 1.5}, {"extra": 1}, {"kind": "FittedModel"},
    ][copy.rng.integers(9)]  # fmt: skip
    copy.write_manifest(**changes)


def wrong_type(copy):
    def change(array, rng):
        others = [t for t in _KINDS if t != array.dtype]
        return array.astype(others[rng.integers(len(others))])

    with np.errstate(all="ignore"):
        return copy.replace_array(change)


def wrong_shape(copy):
    def change(array, rng):
        made = [array[..., None], array.ravel()[:-1], np.concatenate([array.ravel()] * 2)]
        if array.ndim == 1:
            made += [array[:0], np.r_[array, array[-1:]]]
        if array.ndim > 1:
            made += [array.T, array[:, :-1], array[:-1], array.reshape(-1)]
        made = [m for m in made if m.shape != array.shape]
        return made[rng.integers(len(made))]

    return copy.replace_array(change)


def wrong_codes(copy):
    def change(array, rng):
        if array.dtype.kind not in "iu" or not array.size:
            return array
        bad = array.copy().ravel()
        limits = np.iinfo(array.dtype)
        places = rng.integers(0, len(bad), int(rng.integers(1, 4)))
        values = [-1 if limits.min else limits.max, limits.min, limits.max, min(10**4, limits.max)]
        bad[places] = values[rng.integers(4)]
        return bad.reshape(array.shape)

    return copy.replace_array(change)


def not_finite(copy):
    def change(array, rng):
        if array.dtype.kind != "f" or not array.size:
            return array
        bad = array.copy().ravel()
        bad[rng.integers(len(bad))] = rng.choice([np.nan, np.inf, -np.inf])
        return bad.reshape(array.shape)

    return copy.replace_array(change)


def _nodes(value, found):
    if isinstance(value, (dict, list)):
        found.append(value)
        for inner in value.values() if isinstance(value, dict) else value:
            _nodes(inner, found)
    return found


def json_value(copy):
    """Replace, remove or add a value anywhere in the JSON."""
    document, rng = copy.document(), copy.rng
    nodes = [node for node in _nodes(document, []) if node]
    node = nodes[rng.integers(len(nodes))]
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    key = keys[rng.integers(len(keys))]
    action = rng.integers(4)
    values = [
        None, True, -1, 2**31, 2**63, 10**400, "x", [], {}, [1, 2], {"array": "x"},
        {"ref": 0}, {"kind": "EASERecommender", "state": {"dict": {}}}, {"tuple": [1]},
        {"float": "nan"}, {"type": "torch.optim.SGD"}, {"type": "os.system"}, "../x", 1e308,
    ]  # fmt: skip
    if action == 0 and isinstance(node, dict):
        del node[key]
    elif action == 1 and isinstance(node, dict):
        node["another"] = values[rng.integers(len(values))]
    else:
        node[key] = values[rng.integers(len(values))]
    copy.write_document(document)


# Whether what is left is always refused if hashes are those of the damaged files.
DAMAGE = {
    truncated: True, truncated_manifest: True, longer: True, huge_header: True, huge_array: True,
    offsets: True, unknown_type: True, key_twice: True, json_key_twice: True, deep_json: True,
    nan_json: True, outside: True, manifest_values: True, wrong_shape: False, wrong_type: False,
    wrong_codes: False, flipped: False, not_finite: False, json_value: False,
}  # fmt: skip
_ALWAYS = {truncated_manifest, outside, manifest_values}


def damage(source, folder, seed):
    """Damage a copy of a saved folder; return what was done, and whether it must be refused."""
    rng = np.random.default_rng(seed)
    change = list(DAMAGE)[rng.integers(len(DAMAGE))]
    rehash = bool(rng.integers(2))
    copy = Copy(source, folder, rng, rehash=rehash)
    if change(copy) is False:
        return None, False
    return f"{change.__name__}, {'new' if rehash else 'old'} hashes", (
        DAMAGE[change] or not rehash or change in _ALWAYS
    )


def outcome_of(folder, use):
    """Load a damaged folder; return "refused", "loaded", or what is wrong."""
    try:
        model = load(folder)
    except ValueError as error:
        return "refused" if str(folder) in str(error) else f"no file is named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    inspect(folder)
    use(model)
    return "loaded"
