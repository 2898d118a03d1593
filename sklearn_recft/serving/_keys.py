"""API keys: random secrets that are stored as hashes, with scopes, an expiry date and a tenant."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

SCOPES = ("events:write", "recommend:read", "model:admin", "privacy:admin", "metrics:read")
_DAY = 86_400.0
# A thousand years; dates end in the year 9999.
_MOST_DAYS = 365_000
_KEY = re.compile(r"recft_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_FIELDS = {"id", "hash", "scopes", "tenant", "name", "created", "expires", "revoked"}
# What a key with an unknown id is compared with, so that it takes as long as one with a known id.
_NO_HASH = "0" * 64


@dataclass(frozen=True)
class Principal:
    """Who sends a request, and what they may do.

    Attributes
    ----------
    id : str
        Id of the key, or subject of the token. It is no secret.
    tenant : str
        The tenant whose service may be used.
    scopes : frozenset of str
    """

    id: str
    tenant: str
    scopes: frozenset[str]


@dataclass(frozen=True)
class KeyRecord:
    """What the file holds of a key: never the secret.

    Attributes
    ----------
    id, hash : str
        The id, and the SHA-256 of the whole key.
    scopes : tuple of str
    tenant, name : str
    created : float
        Seconds since 1970.
    expires, revoked : float or None
        Seconds since 1970; None is never.
    """

    id: str
    hash: str
    scopes: tuple[str, ...]
    tenant: str
    name: str
    created: float
    expires: float | None
    revoked: float | None

    def is_valid(self, now: float) -> bool:
        """Whether the key is accepted at a time, in seconds since 1970."""
        return (self.expires is None or now < self.expires) and (
            self.revoked is None or now < self.revoked
        )


class KeyFile:
    """File of API keys: JSON, readable by its owner only, replaced atomically.

    A key is ``recft_<id>_<secret>`` with 256 random bits. The file holds its SHA-256, so it cannot
    be read back. Several keys are valid at once: `rotate` makes a new one, and the old one ends
    after a time of grace. A running service reads the file again when it has changed.

    Parameters
    ----------
    path : path-like
        The file. `add` creates it.

    Raises
    ------
    ValueError
        When the file is read: if others may read it (mode 0600 is required), or if it is damaged.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sklearn_recft.serving import KeyFile
    >>> folder = tempfile.TemporaryDirectory()
    >>> keys = KeyFile(pathlib.Path(folder.name, "keys.json"))
    >>> key = keys.add(["recommend:read"], name="shop")
    >>> sorted(keys.verify(key).scopes)
    ['recommend:read']
    >>> keys.revoke(keys.list()[0].id)
    >>> keys.verify(key) is None
    True
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._version: tuple[int, int, int] | None = None
        self._records: dict[str, KeyRecord] = {}

    def add(
        self,
        scopes: Iterable[str],
        *,
        tenant: str = "default",
        name: str = "",
        days: float | None = None,
    ) -> str:
        """Make a key and store its hash.

        Parameters
        ----------
        scopes : iterable of str
            Among "events:write", "recommend:read", "model:admin", "privacy:admin" and
            "metrics:read".
        tenant, name : str
            The tenant the key is bound to, and what to call the key in lists.
        days : float, default=None
            Days until it expires; None is never.

        Returns
        -------
        key : str
            The only time that the secret is shown.
        """
        chosen = _check_scopes(scopes)
        if days is not None and not 0 < days <= _MOST_DAYS:
            raise ValueError(f"days must be above 0 and at most {_MOST_DAYS}, got {days!r}.")
        now = time.time()
        key, record = _new_key(
            chosen, tenant, name, now, None if days is None else now + days * _DAY
        )
        with self._changing() as records:
            records[record.id] = record
        return key

    def rotate(self, key_id: str, *, grace_days: float = 7.0) -> str:
        """Make a key with the rights of another, which ends after ``grace_days``.

        Returns
        -------
        key : str
        """
        if not 0 <= grace_days <= _MOST_DAYS:
            raise ValueError(f"grace_days must be 0 to {_MOST_DAYS}, got {grace_days!r}.")
        now = time.time()
        with self._changing() as records:
            old = _known(records, key_id)
            if not old.is_valid(now):
                raise ValueError(f"Key {key_id} is revoked or expired; add a new key.")
            left = now + grace_days * _DAY
            key, record = _new_key(old.scopes, old.tenant, old.name, now, old.expires)
            records[key_id] = replace(
                old, expires=left if old.expires is None else min(left, old.expires)
            )
            records[record.id] = record
        return key

    def revoke(self, key_id: str) -> None:
        """Refuse a key from now on; its record stays in the list."""
        with self._changing() as records:
            records[key_id] = replace(_known(records, key_id), revoked=time.time())

    def list(self) -> Sequence[KeyRecord]:
        """Return the records in the order in which they were made."""
        with self._lock:
            return sorted(self._current().values(), key=lambda one: (one.created, one.id))

    def verify(self, key: str, *, now: float | None = None) -> Principal | None:
        """Return whose key this is; None if it is unknown, expired or revoked.

        Hashes are compared in constant time.
        """
        match = _KEY.fullmatch(key)
        with self._lock:
            record = self._current().get(match[1]) if match else None
        same = hmac.compare_digest(_hash(key), record.hash if record else _NO_HASH)
        if record is None or not same or not record.is_valid(time.time() if now is None else now):
            return None
        return Principal(record.id, record.tenant, frozenset(record.scopes))

    # ------------------------------------------------------------------------------ the file

    @contextmanager
    def _changing(self) -> Iterator[dict[str, KeyRecord]]:
        with self._lock, _alone(self.path):
            records = dict(self._current())
            yield records
            _write(self.path, {"keys": [asdict(one) for one in records.values()]})
            self._version = None

    def _current(self) -> dict[str, KeyRecord]:
        """Return the records, read again if the file is another one than before."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._version = None
            return {}
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if version != self._version:
            _check_mode(self.path, found.st_mode)
            self._records = _read(self.path)
            self._version = version
        return self._records


def _check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    chosen = (scopes,) if isinstance(scopes, str) else tuple(dict.fromkeys(scopes))
    unknown = [scope for scope in chosen if scope not in SCOPES]
    if unknown or not chosen:
        raise ValueError(f"scopes must be among {list(SCOPES)}, at least one; got {list(chosen)}.")
    return chosen


def _new_key(
    scopes: tuple[str, ...], tenant: str, name: str, now: float, expires: float | None
) -> tuple[str, KeyRecord]:
    key_id = secrets.token_hex(6)
    key = f"recft_{key_id}_{secrets.token_urlsafe(32)}"
    return key, KeyRecord(key_id, _hash(key), scopes, tenant, name, now, expires, None)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def _known(records: dict[str, KeyRecord], key_id: str) -> KeyRecord:
    if key_id not in records:
        raise ValueError(f"There is no key with the id {key_id!r}; `list` names the ids.")
    return records[key_id]


def _check_mode(path: Path, mode: int) -> None:
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ValueError(f"{path}: others may read the file of keys; run chmod 600 {path}.")


def _read(path: Path) -> dict[str, KeyRecord]:
    try:
        records = [_record(one) for one in json.loads(path.read_bytes())["keys"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no file of keys, or is damaged: {error}") from error
    return {one.id: one for one in records}


def _record(fields: dict[str, Any]) -> KeyRecord:
    if set(fields) != _FIELDS:
        raise ValueError(f"a key has the fields {sorted(fields)}")
    texts = [fields[name] for name in ("id", "hash", "tenant", "name")]
    times = [
        fields["created"],
        *(fields[n] for n in ("expires", "revoked") if fields[n] is not None),
    ]
    if not all(isinstance(one, str) for one in texts) or not all(map(_is_time, times)):
        raise ValueError("a key has a field of another type")
    return KeyRecord(**{**fields, "scopes": _check_scopes(fields["scopes"])})


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace the file by one that only its owner may read."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time change the file."""
    try:
        import fcntl
    except ImportError:  # Windows: changes from two processes at once are not kept apart
        yield
        return
    beside = path.with_name(f".{path.name}.lock")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
