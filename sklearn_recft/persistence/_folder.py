"""A saved model is a folder: JSON, arrays, and a manifest that is written last."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from sklearn_recft.files import sync_folder
from sklearn_recft.persistence._decoder import Decoder
from sklearn_recft.persistence._encoder import Document, Encoder
from sklearn_recft.persistence._json import check_plain, read_json, write_json
from sklearn_recft.persistence._kinds import kind_of
from sklearn_recft.persistence._manifest import (
    MANIFEST,
    OWN,
    PLAIN,
    SEALED,
    checked_seq,
    digest_of,
    naming,
    opens_with,
    read_manifest,
    size_of_file,
    state_of_file,
    write_manifest,
)
from sklearn_recft.persistence._sealed import Sealing
from sklearn_recft.persistence._tensors import (
    Source,
    Target,
    mapped_tensors,
    read_places,
    read_tensors,
    write_tensors,
)

if TYPE_CHECKING:
    from sklearn_recft.preprocessing import SecretKey

_MAX_METADATA = 1 << 19
_SUFFIXES = {"model": ".json", "tensors": ".safetensors"}
_Found = TypeVar("_Found")


def save(
    model: BaseEstimator,
    path: str | os.PathLike[str],
    *,
    seq: int | None = None,
    metadata: Any = None,
    include_backbone: bool = False,
    key: str | SecretKey | None = None,
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
    key : str or SecretKey, default=None
        Encrypt the files by AES-256-GCM with this key: the name of an environment variable that
        holds it, at least 16 bytes of random text, or a `SecretKey`. It needs the extra
        ``[privacy]``. Everyone can still read the number of the format, the version of this
        package, and the sizes of the files. If the key is lost, so is the model.

    Returns
    -------
    digest : str
        SHA-256 of the model. Equal models have equal digests, on all machines, and also after they
        were loaded. `seq`, `metadata` and `key` are not part of it.

    Raises
    ------
    TypeError
        If a part of the model or of `metadata` is no plain value, such as a callback; the message
        names it.
    ValueError
        If the folder holds other files, or a model that is encrypted where there is no `key`, or
        `metadata` takes more than 512 KiB.
    ImportError
        If there is a `key`, and the package cryptography is not installed.

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
    folder, sealing = Path(path), _sealing_of(key)
    _check_folder(folder, sealing)
    encoder = Encoder()
    with _copied_backbones(include_backbone):
        document = encoder.write(model)
    text = write_json(document.root)
    folder.mkdir(parents=True, exist_ok=True)
    listed = {
        "model": _write(folder, "model", sealing, lambda file: _write_text(file, text)),
        "tensors": _write(
            folder, "tensors", sealing, lambda file: write_tensors(file, document.arrays)
        ),
    }
    digest = digest_of(kind, listed)
    manifest = {
        "digest": digest,
        "files": listed,
        "format": PLAIN if sealing is None else SEALED,
        "kind": kind,
        "metadata": extra,
        "seq": seq,
        "version": _version(),
    }
    write_manifest(folder, manifest, sealing)
    _remove_others(folder, {MANIFEST, *(entry["name"] for entry in listed.values())})
    return digest


def load(
    path: str | os.PathLike[str],
    *,
    expect: type | None = None,
    digest: str | None = None,
    mmap: bool = False,
    key: str | SecretKey | None = None,
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
        memory. Their hash is not verified then, as that would read the whole file. Encrypted files
        cannot be mapped.
    key : str or SecretKey, default=None
        The key that `save` was given, if it was given one. It also proves that the folder was
        written by somebody who has the key, and that no part of it was changed or exchanged.

    Returns
    -------
    model : estimator
        It predicts and learns as the saved one would, bit by bit.

    Raises
    ------
    ValueError
        If a file is damaged, or was not written by `save`, or is not what was expected, or the key
        is missing, is another one, or is given for a folder that is not encrypted. The message
        names the file. It is raised before memory is allocated for more than the file has.
    FileNotFoundError
        If the folder does not exist, or holds no saved model.
    """
    if expect is not None and not isinstance(expect, type):
        raise TypeError(f"expect={expect!r}: give a class, such as BiasRecommender.")
    sealing = _sealing_of(key)
    if mmap and sealing is not None:
        raise ValueError("mmap=True: an encrypted file cannot be mapped; leave out mmap.")
    return _while_saved(
        Path(path), lambda folder: _load(folder, sealing, expect=expect, digest=digest, mmap=mmap)
    )


def _load(
    folder: Path, sealing: Sealing | None, *, expect: type | None, digest: str | None, mmap: bool
) -> Any:
    with naming(folder / MANIFEST):
        manifest = read_manifest(folder, sealing)
        if digest is not None and manifest["digest"] != digest:
            raise ValueError(f"its digest is {manifest['digest']}, and not {digest}")
        if expect is not None and manifest["kind"] != expect.__name__:
            raise ValueError(f"it is of a {manifest['kind']}, and not of a {expect.__name__}")
    files = manifest["files"]
    root = _read_root(folder, files["model"], sealing)
    place = folder / files["tensors"]["name"]
    with naming(place), _opened(place, "tensors", files["tensors"], sealing) as file:
        if mmap:
            arrays = mapped_tensors(place, file, files["tensors"]["size"])
        else:
            arrays, found = read_tensors(file, files["tensors"]["size"])
            if found != files["tensors"]["sha256"]:
                raise ValueError("its SHA-256 is not that of the manifest: the file is damaged")
    with naming(folder / files["model"]["name"]):
        model = Decoder(Document(root, arrays)).decode()
        if kind_of(model) != manifest["kind"]:
            raise ValueError(f"it is not of a {manifest['kind']}, as the manifest says")
    return model


def inspect(path: str | os.PathLike[str], *, key: str | SecretKey | None = None) -> Bunch:
    """Read what a folder holds, without making the model.

    Parameters
    ----------
    path : str or path-like
    key : str or SecretKey, default=None
        The key that `save` was given, if it was given one.

    Returns
    -------
    found : Bunch
        ``kind``, ``params`` (as JSON), ``format``, ``encrypted``, ``version``, ``seq``,
        ``metadata``, ``digest``, ``sizes`` (bytes of the files) and ``arrays`` (type and shape by
        name).

    Raises
    ------
    ValueError
        If a file is damaged, or the key is not that of the folder; the message names it. The arrays
        are not verified.
    """
    sealing = _sealing_of(key)
    return _while_saved(Path(path), lambda folder: _inspect(folder, sealing))


def _inspect(folder: Path, sealing: Sealing | None) -> Bunch:
    with naming(folder / MANIFEST):
        manifest = read_manifest(folder, sealing)
    files = manifest["files"]
    root = _read_root(folder, files["model"], sealing)
    with naming(folder / files["model"]["name"]):
        params = root["state"]["dict"]["parameters"]["dict"]
    place = folder / files["tensors"]["name"]
    with naming(place), _opened(place, "tensors", files["tensors"], sealing, whole=False) as file:
        places = read_places(file, files["tensors"]["size"])
    return Bunch(
        kind=manifest["kind"],
        params=params,
        format=manifest["format"],
        encrypted=sealing is not None,
        version=manifest["version"],
        seq=manifest["seq"],
        metadata=manifest["metadata"],
        digest=manifest["digest"],
        sizes={entry["name"]: size_of_file(entry) for entry in files.values()},
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


def _sealing_of(key: str | SecretKey | None) -> Sealing | None:
    return None if key is None else Sealing(key)


def _check_folder(folder: Path, sealing: Sealing | None) -> None:
    """Refuse to save to a folder of other files, and to leave out the key of an encrypted one."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the path of a folder.")
    others = sorted(p.name for p in folder.iterdir() if not OWN.fullmatch(p.name))
    if others:
        raise ValueError(
            f"{folder} holds other files ({', '.join(others[:3])}); give the path of a new folder."
        )
    if sealing is None and opens_with(folder, None) is False:
        raise ValueError(
            f"{folder} holds an encrypted model, and key=None would replace it by readable files; "
            "give a key, or the path of a new folder."
        )


def _write(
    folder: Path,
    role: str,
    sealing: Sealing | None,
    write: Callable[[Target], tuple[int, str]],
) -> dict[str, Any]:
    """Write a file under a name by its hash, or by its salt; return its entry in the manifest."""
    suffix = _SUFFIXES[role] if sealing is None else ".sealed"
    part = folder / f"{role}-{'0' * 12}{suffix}.part"
    salt = b"" if sealing is None else sealing.new_salt()
    with part.open("wb") as file:
        if sealing is None:
            size, found = write(file)
        else:
            writer = sealing.writer(file, role, salt)
            size, found = write(writer)
            writer.finish()
        file.flush()
        os.fsync(file.fileno())
    name = f"{role}-{(salt.hex() or found)[:12]}{suffix}"
    os.replace(part, folder / name)
    entry = {"name": name, "sha256": found, "size": size}
    return {**entry, "salt": salt.hex()} if salt else entry


def _write_text(file: Target, text: bytes) -> tuple[int, str]:
    file.write(text)
    return len(text), hashlib.sha256(text).hexdigest()


@contextmanager
def _opened(
    path: Path, role: str, entry: dict[str, Any], sealing: Sealing | None, *, whole: bool = True
) -> Iterator[Source]:
    """Open a file of the size that the manifest says; to its end, it must be read if ``whole``."""
    with path.open("rb") as file:
        size, wanted = os.fstat(file.fileno()).st_size, size_of_file(entry)
        if size != wanted:
            raise ValueError(f"it has {size} bytes, and the manifest says {wanted}")
        if sealing is None:
            yield file
            return
        reader = sealing.reader(file, role, bytes.fromhex(entry["salt"]), entry["size"])
        yield reader
        if whole:
            reader.finish()


def _read_root(folder: Path, entry: dict[str, Any], sealing: Sealing | None) -> Any:
    """Read the JSON of a model."""
    place = folder / entry["name"]
    with naming(place), _opened(place, "model", entry, sealing) as file:
        text = file.read(entry["size"])
        if hashlib.sha256(text).hexdigest() != entry["sha256"]:
            raise ValueError("its SHA-256 is not that of the manifest: the file is damaged")
        return read_json(text)


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove the files of earlier saves."""
    for path in folder.iterdir():
        if path.name not in kept and OWN.fullmatch(path.name):
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
