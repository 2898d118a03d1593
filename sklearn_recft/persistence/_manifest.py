"""The manifest of a saved model: read and checked first, and written last."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

from sklearn_recft.files import sync_folder
from sklearn_recft.persistence._json import read_json, write_json
from sklearn_recft.persistence._sealed import Sealing, sealed_size

PLAIN, SEALED = 1, 2  # formats: readable by everyone, and encrypted
MANIFEST = "MANIFEST.json"
# Names of the two files. The digits are those of their hash, or of the salt of an encrypted one: a
# folder can be saved to again.
_NAMES = {
    PLAIN: {"model": r"model-[0-9a-f]{12}\.json", "tensors": r"tensors-[0-9a-f]{12}\.safetensors"},
    SEALED: {role: rf"{role}-[0-9a-f]{{12}}\.sealed" for role in ("model", "tensors")},
}
OWN = re.compile(
    rf"({MANIFEST}|{'|'.join(name for names in _NAMES.values() for name in names.values())})"
    r"(\.part)?"
)
_MAX_MANIFEST = 1 << 20
_MAX_SEQ = 2**63 - 1
_HASH = re.compile(r"[0-9a-f]{64}")
_KEYS = {"digest", "files", "format", "kind", "metadata", "seq", "version"}
# What everyone can read of an encrypted folder.
_OUTER_KEYS = {"cipher", "format", "key_check", "salt", "sealed", "version"}
_CIPHER = "AES-256-GCM"


def read_manifest(folder: Path, sealing: Sealing | None = None) -> dict[str, Any]:
    """Read and check the manifest of a folder, and decrypt it if it is encrypted."""
    manifest = _read(folder)
    if manifest["format"] == SEALED:
        if sealing is None:
            raise ValueError("it is encrypted: give its key as key=, or --key-file to recft")
        manifest = _opened(manifest, sealing)
    elif sealing is not None:
        raise ValueError(
            "it is not encrypted, so the key does not show who wrote it: leave out the key, if you "
            "trust the folder"
        )
    if set(manifest) != _KEYS:
        raise ValueError(f"it has the keys {sorted(manifest)}, and not {sorted(_KEYS)}")
    checked_seq(manifest["seq"])
    files = manifest["files"]
    if not isinstance(files, dict) or set(files) != {"model", "tensors"}:
        raise ValueError("it must name two files, model and tensors")
    for role, entry in files.items():
        _check_entry(role, entry, manifest["format"])
    if manifest["digest"] != digest_of(manifest["kind"], files):
        raise ValueError("its digest is not that of its files")
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any], sealing: Sealing | None) -> None:
    """Replace the manifest of a folder in one step."""
    if sealing is not None:
        manifest = _closed(manifest, sealing)
    replace_file(folder / MANIFEST, write_json(manifest) + b"\n")


def opens_with(folder: Path, sealing: Sealing | None) -> bool | None:
    """Whether a folder opens with a key, or without one; None if it has no whole manifest."""
    try:
        manifest = _read(folder)
        if sealing is None or manifest["format"] == PLAIN:
            return (sealing is None) == (manifest["format"] == PLAIN)
        return _has_key(manifest, sealing)
    except (OSError, ValueError):
        return None


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    size = path.stat().st_size
    if size > _MAX_MANIFEST:
        raise ValueError(f"{size} bytes are too many")
    manifest = read_json(path.read_bytes())
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise ValueError("it is no manifest")
    if type(manifest["format"]) is not int or manifest["format"] not in _NAMES:
        raise ValueError(
            f"its format is {manifest['format']!r}; this version reads {sorted(_NAMES)}. Upgrade "
            "sklearn-recft, or save the model with an older one"
        )
    return manifest


def _closed(manifest: dict[str, Any], sealing: Sealing) -> dict[str, Any]:
    """Return a manifest of which everyone can read format, cipher and version."""
    salt = sealing.new_salt()
    outer = {
        "cipher": _CIPHER,
        "format": SEALED,
        "key_check": sealing.check_of(salt),
        "salt": salt.hex(),
        "version": manifest["version"],
    }
    sealed = sealing.seal(write_json(manifest), "manifest", salt, write_json(outer))
    return {**outer, "sealed": base64.b64encode(sealed).decode("ascii")}


def _opened(outer: dict[str, Any], sealing: Sealing) -> dict[str, Any]:
    """Return the manifest that `_closed` has encrypted."""
    if not _has_key(outer, sealing):
        raise ValueError("it was encrypted with another key: give the key of its save")
    text = outer.pop("sealed")
    sealed = base64.b64decode(text, validate=True)
    if base64.b64encode(sealed).decode("ascii") != text:
        raise ValueError("it is damaged")
    salt = bytes.fromhex(outer["salt"])
    manifest = read_json(sealing.open(sealed, "manifest", salt, write_json(outer)))
    if not isinstance(manifest, dict) or manifest.get("format") != SEALED:
        raise ValueError("it is no manifest")
    return manifest


def _has_key(outer: dict[str, Any], sealing: Sealing) -> bool:
    """Whether a manifest was encrypted with this key."""
    if set(outer) != _OUTER_KEYS or not all(
        isinstance(value, str) for name, value in outer.items() if name != "format"
    ):
        raise ValueError(f"it must have the keys {sorted(_OUTER_KEYS)}, all of them texts")
    if outer["cipher"] != _CIPHER or not _HASH.fullmatch(outer["salt"]):
        raise ValueError(f"its cipher is not {_CIPHER}, or it has no salt")
    return sealing.check_of(bytes.fromhex(outer["salt"])) == outer["key_check"]


def digest_of(kind: Any, files: dict[str, Any]) -> str:
    """Return the digest of a model: that of its kind, its JSON and its arrays.

    It is the same in all formats.
    """
    hashes = {role: entry["sha256"] for role, entry in files.items()}
    return hashlib.sha256(write_json([PLAIN, kind, hashes])).hexdigest()


def size_of_file(entry: dict[str, Any]) -> int:
    """Return how many bytes a file of the manifest takes."""
    size: int = entry["size"]
    return sealed_size(size) if "salt" in entry else size


def _check_entry(role: str, entry: Any, number: int) -> None:
    """Check what the manifest says of a file: its name cannot lead out of the folder."""
    keys = {"name", "sha256", "size", *(["salt"] if number == SEALED else [])}
    if not isinstance(entry, dict) or set(entry) != keys:
        raise ValueError(f"{role} needs {', '.join(sorted(keys))}, and nothing else")
    name, size = entry["name"], entry["size"]
    for key in keys & {"sha256", "salt"}:
        if not isinstance(entry[key], str) or not _HASH.fullmatch(entry[key]):
            raise ValueError(f"the {key} of {role} is {entry[key]!r}")
    if not isinstance(name, str) or not re.fullmatch(_NAMES[number][role], name):
        raise ValueError(f"{name!r} is no name of a file of {role}")
    if type(size) is not int or not 0 <= size < 2**62:
        raise ValueError(f"the size of {role} is {size!r}")


def checked_seq(seq: Any) -> int | None:
    """Return the number of an event as an int of Python, or None."""
    if seq is None:
        return None
    if isinstance(seq, bool) or not isinstance(seq, Integral) or not 0 <= int(seq) <= _MAX_SEQ:
        shown = "a longer number" if isinstance(seq, int) and abs(seq) > 10**30 else repr(seq)
        raise ValueError(f"seq={shown}: give the number of an event, from 0 to 2**63 - 1, or None")
    return int(seq)


def replace_file(path: Path, text: bytes) -> None:
    """Write a small file and replace it in one step; after a crash it is the old or the new one."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)


def state_of_file(path: Path) -> tuple[int, int, int] | None:
    """Return what changes each time that a file is replaced, or None if there is no file.

    Its bytes would not do: meanwhile it may be replaced twice, and then hold the old ones again.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn every error of the block into one ValueError that names a file."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(_no_model(path)) from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path}: {reason.rstrip('.')}. Nothing was loaded.") from error


def _no_model(path: Path) -> str:
    """Say why a file of a model is not there, and what to do."""
    folder = path.parent
    if path.name != MANIFEST:
        return f"{path}: the manifest names it, and it is missing. Nothing was loaded."
    if not folder.exists():
        return f"{folder}: there is no such folder. Give a folder that `save` wrote."
    if not folder.is_dir():
        return (
            f"{folder} is a file, and a saved model is a folder. Give a folder that `save` wrote."
        )
    if (folder / "CURRENT").exists():
        return f"{folder} is a store of models: use ModelStore({str(folder)!r}).load()."
    return f"{folder} holds no saved model: it has no {MANIFEST}. Give a folder that `save` wrote."
