"""A saved model is a folder: JSON, arrays, and a manifest that is written last."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from sklearn_recft.persistence._decoder import Decoder
from sklearn_recft.persistence._encoder import Document, Encoder
from sklearn_recft.persistence._json import check_plain, read_json, write_json
from sklearn_recft.persistence._kinds import kind_of
from sklearn_recft.persistence._tensors import read_places, read_tensors, write_tensors

FORMAT = 1
MANIFEST = "MANIFEST.json"
# Names of the two files. The digits are those of their hash: a folder can be saved to again.
_FILES = {"model": r"model-[0-9a-f]{12}\.json", "tensors": r"tensors-[0-9a-f]{12}\.safetensors"}
_OWN = re.compile(rf"({MANIFEST}|{'|'.join(_FILES.values())})(\.part)?")
_MAX_MANIFEST = 1 << 20
_MAX_METADATA = 1 << 19
_MAX_SEQ = 2**63 - 1
_HASH = re.compile(r"[0-9a-f]{64}")
_Found = TypeVar("_Found")
_KEYS = {"digest", "files", "format", "kind", "metadata", "seq", "version"}


def save(
    model: BaseEstimator,
    path: str | os.PathLike[str],
    *,
    seq: int | None = None,
    metadata: Any = None,
    include_backbone: bool = False,
) -> str:
    """Save an estimator, fitted or not, to a folder of JSON and safetensors, without pickle.

    Parameters
    ----------
    model : estimator
        Any estimator, transformer or pipeline of this package. Estimators of scikit-learn may be
        part of it if they hold arrays only, such as `StandardScaler` and `LogisticRegression`.
    path : str or path-like
        A new folder, or one that was saved to before. A crash leaves the old model or the new one.
    seq : int, default=None
        Number of the last event that the model has learned, for logs that are replayed.
    metadata : dict, default=None
        Further plain values for the manifest: strings, numbers, lists and dicts.
    include_backbone : bool, default=False
        Copy the weights of frozen text encoders. By default, the file has their name and a
        fingerprint, and the machine that loads the model needs the same weights.

    Returns
    -------
    digest : str
        SHA-256 of the model. Equal models have equal digests, on all machines, and also after they
        were loaded. `seq` and `metadata` are not part of it.

    Raises
    ------
    TypeError
        If a part of the model or of `metadata` is no plain value, such as a callback; the message
        names it.
    ValueError
        If the folder holds other files, or `metadata` takes more than 512 KiB.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from sklearn_recft import BiasRecommender
    >>> from sklearn_recft.persistence import load, save
    >>> model = BiasRecommender().fit(np.array([[1, 7], [1, 8], [2, 7]]), [5.0, 3.0, 4.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     digest = save(model, f"{folder}/model")
    ...     twin = load(f"{folder}/model", digest=digest)
    >>> bool((twin.predict([[2, 8]]) == model.predict([[2, 8]])).all())
    True
    """
    seq = checked_seq(seq)
    kind = kind_of(model)
    if kind is None:
        raise TypeError(
            f"A {type(model).__name__} cannot be saved: save estimators of this package."
        )
    extra = _checked_metadata(metadata)  # before anything is written
    folder = Path(path)
    _check_folder(folder)
    encoder = Encoder()
    with _copied_backbones(include_backbone):
        document = encoder.write(model)
    text = write_json(document.root)
    folder.mkdir(parents=True, exist_ok=True)
    listed = {
        "model": _write(folder, "model", ".json", lambda file: _write_text(file, text)),
        "tensors": _write(
            folder,
            "tensors",
            ".safetensors",
            lambda file: write_tensors(file, document.arrays),
        ),
    }
    digest = digest_of(kind, listed)
    manifest = {
        "digest": digest,
        "files": listed,
        "format": FORMAT,
        "kind": kind,
        "metadata": extra,
        "seq": seq,
        "version": _version(),
    }
    replace_file(folder / MANIFEST, write_json(manifest) + b"\n")
    _remove_others(folder, {MANIFEST, *(entry["name"] for entry in listed.values())})
    return digest


def load(
    path: str | os.PathLike[str],
    *,
    expect: type | None = None,
    digest: str | None = None,
    mmap: bool = False,
) -> Any:
    """Load an estimator that `save` wrote; nothing in the folder is run.

    Parameters
    ----------
    path : str or path-like
    expect : type, default=None
        Class of the estimator, such as `IncrementalMFRecommender`.
    digest : str, default=None
        The digest that `save` returned. It proves that the model is that one: hashes inside of the
        folder only find damage.
    mmap : bool, default=False
        Map the arrays, copy on write, in place of reading them: fast, and processes share the
        memory. Their hash is not verified then, as that would read the whole file.

    Returns
    -------
    model : estimator
        It predicts and learns as the saved one would, bit by bit.

    Raises
    ------
    ValueError
        If a file is damaged, or was not written by `save`, or is not what was expected. The message
        names the file. It is raised before memory is allocated for more than the file has.
    FileNotFoundError
        If the folder does not exist, or holds no saved model.
    """
    if expect is not None and not isinstance(expect, type):
        raise TypeError(f"expect={expect!r}: give a class, such as BiasRecommender.")
    return _while_saved(Path(path), lambda folder: _load(folder, expect, digest, mmap))


def _load(folder: Path, expect: type | None, digest: str | None, mmap: bool) -> Any:
    with naming(folder / MANIFEST):
        manifest = read_manifest(folder)
        if digest is not None and manifest["digest"] != digest:
            raise ValueError(f"its digest is {manifest['digest']}, and not {digest}")
        if expect is not None and manifest["kind"] != expect.__name__:
            raise ValueError(f"it is of a {manifest['kind']}, and not of a {expect.__name__}")
    text, tensors = (manifest["files"][role] for role in ("model", "tensors"))
    with naming(folder / text["name"]):
        root = read_json(_read_text(folder / text["name"], text))
    with naming(folder / tensors["name"]):
        place = folder / tensors["name"]
        arrays, found = read_tensors(place, tensors["size"], mmap=mmap)
        if found is not None and found != tensors["sha256"]:
            raise ValueError("its SHA-256 is not that of the manifest: the file is damaged")
    with naming(folder / text["name"]):
        model = Decoder(Document(root, arrays)).decode()
        if kind_of(model) != manifest["kind"]:
            raise ValueError(f"it is not of a {manifest['kind']}, as the manifest says")
    return model


def inspect(path: str | os.PathLike[str]) -> Bunch:
    """Read what a folder holds, without making the model.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    found : Bunch
        ``kind``, ``params`` (as JSON), ``format``, ``version``, ``seq``, ``metadata``, ``digest``,
        ``sizes`` (bytes of the files) and ``arrays`` (type and shape by name).

    Raises
    ------
    ValueError
        If a file is damaged; the message names it. The arrays are not verified.
    """
    return _while_saved(Path(path), _inspect)


def _inspect(folder: Path) -> Bunch:
    with naming(folder / MANIFEST):
        manifest = read_manifest(folder)
    text, tensors = (manifest["files"][role] for role in ("model", "tensors"))
    with naming(folder / text["name"]):
        root = read_json(_read_text(folder / text["name"], text))
        params = root["state"]["dict"]["parameters"]["dict"]
    with naming(folder / tensors["name"]):
        places = read_places(folder / tensors["name"], tensors["size"])
    return Bunch(
        kind=manifest["kind"],
        params=params,
        format=manifest["format"],
        version=manifest["version"],
        seq=manifest["seq"],
        metadata=manifest["metadata"],
        digest=manifest["digest"],
        sizes={entry["name"]: entry["size"] for entry in manifest["files"].values()},
        arrays={name: (place.dtype.name, place.shape) for name, place in places.items()},
    )


def _while_saved(folder: Path, read: Callable[[Path], _Found]) -> _Found:
    """Read a folder again as often as another process replaces its files meanwhile."""
    while True:
        before = state_of_file(folder / MANIFEST)
        try:
            return read(folder)
        except FileNotFoundError as error:
            if before is None:
                raise
            if state_of_file(folder / MANIFEST) == before:
                raise ValueError(str(error)) from error


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


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check the manifest of a folder."""
    path = folder / MANIFEST
    size = path.stat().st_size
    if size > _MAX_MANIFEST:
        raise ValueError(f"{size} bytes are too many")
    manifest = read_json(path.read_bytes())
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise ValueError("it is no manifest")
    if type(manifest["format"]) is not int or manifest["format"] != FORMAT:
        raise ValueError(
            f"its format is {manifest['format']!r}; this version reads {FORMAT}. Upgrade "
            "sklearn-recft, or save the model with an older one"
        )
    if set(manifest) != _KEYS:
        raise ValueError(f"it has the keys {sorted(manifest)}, and not {sorted(_KEYS)}")
    checked_seq(manifest["seq"])
    files = manifest["files"]
    if not isinstance(files, dict) or set(files) != set(_FILES):
        raise ValueError("it must name two files, model and tensors")
    for role, entry in files.items():
        _check_entry(role, entry)
    if manifest["digest"] != digest_of(manifest["kind"], files):
        raise ValueError("its digest is not that of its files")
    return manifest


def digest_of(kind: Any, files: dict[str, Any]) -> str:
    """Return the digest of a model: that of its kind, its JSON and its arrays."""
    hashes = {role: entry["sha256"] for role, entry in files.items()}
    return hashlib.sha256(write_json([FORMAT, kind, hashes])).hexdigest()


def replace_file(path: Path, text: bytes) -> None:
    """Write a small file and replace it in one step; after a crash it is the old or the new one."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name == "nt":  # folders cannot be opened there
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _check_entry(role: str, entry: Any) -> None:
    """Check what the manifest says of a file: its name cannot lead out of the folder."""
    if not isinstance(entry, dict) or set(entry) != {"name", "sha256", "size"}:
        raise ValueError(f"{role} needs a name, a size and a sha256, and nothing else")
    name, sha, size = entry["name"], entry["sha256"], entry["size"]
    if not isinstance(sha, str) or not _HASH.fullmatch(sha):
        raise ValueError(f"the sha256 of {role} is {sha!r}")
    if not isinstance(name, str) or not re.fullmatch(_FILES[role], name):
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


def _checked_metadata(metadata: Any) -> dict[str, Any]:
    """Return metadata as JSON gives them back."""
    if metadata is None:
        return {}
    if type(metadata) is not dict:
        raise TypeError(f"metadata is a {type(metadata).__name__}; give a dict of plain values.")
    check_plain(metadata, "metadata")
    text = write_json(metadata)
    if len(text) > _MAX_METADATA:
        raise ValueError(f"metadata takes {len(text)} bytes, and may take {_MAX_METADATA}.")
    found: dict[str, Any] = read_json(text)
    return found


def _check_folder(folder: Path) -> None:
    """Refuse to save to a folder of other files."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the path of a folder.")
    others = sorted(p.name for p in folder.iterdir() if not _OWN.fullmatch(p.name))
    if others:
        raise ValueError(
            f"{folder} holds other files ({', '.join(others[:3])}); give the path of a new folder."
        )


def _write(
    folder: Path, role: str, suffix: str, write: Callable[[BinaryIO], tuple[int, str]]
) -> dict[str, Any]:
    """Write a file under a name by its hash; return its entry in the manifest."""
    part = folder / f"{role}-{'0' * 12}{suffix}.part"
    with part.open("wb") as file:
        size, found = write(file)
        file.flush()
        os.fsync(file.fileno())
    name = f"{role}-{found[:12]}{suffix}"
    os.replace(part, folder / name)
    return {"name": name, "sha256": found, "size": size}


def _write_text(file: BinaryIO, text: bytes) -> tuple[int, str]:
    file.write(text)
    return len(text), hashlib.sha256(text).hexdigest()


def _read_text(path: Path, entry: dict[str, Any]) -> bytes:
    if path.stat().st_size != entry["size"]:
        raise ValueError(f"it has {path.stat().st_size} bytes, the manifest says {entry['size']}")
    text = path.read_bytes()
    if hashlib.sha256(text).hexdigest() != entry["sha256"]:
        raise ValueError("its SHA-256 is not that of the manifest: the file is damaged")
    return text


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove the files of earlier saves."""
    for path in folder.iterdir():
        if path.name not in kept and _OWN.fullmatch(path.name):
            path.unlink(missing_ok=True)
    sync_folder(folder)


def _copied_backbones(wanted: bool) -> AbstractContextManager[None]:
    """Return a block in which states of encoders hold their weights."""
    if not wanted:
        return nullcontext()
    from sklearn_recft.text import copied_backbones  # loads torch

    return copied_backbones()


def _version() -> str:
    version: str = import_module("sklearn_recft").__version__
    return version
