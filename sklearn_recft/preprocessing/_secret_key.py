"""Keys that are used, and never printed or pickled."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any, NoReturn

_LEAST_BYTES = 16
_A_RANDOM_TEXT = (
    "a random text, such as one of `python -c 'import secrets; print(secrets.token_hex(32))'`"
)


class SecretKey:
    """A key of bytes that is never printed or pickled.

    Parameters
    ----------
    value : bytes
        At least 16 random bytes, such as ``secrets.token_bytes(32)``. A key is used as it is, so
        it must not be a password that somebody can guess.

    Examples
    --------
    >>> from sklearn_recft.preprocessing import SecretKey
    >>> SecretKey(b"0123456789abcdef")
    SecretKey(...)
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes):
            raise TypeError(f"value: a key must be bytes, got {type(value).__name__}.")
        self._value = _long_enough(value, "value")

    @classmethod
    def of(cls, key: str | SecretKey) -> SecretKey:
        """Return a key, or read it from the environment.

        Parameters
        ----------
        key : str or SecretKey
            Name of an environment variable that holds a text of at least 16 bytes; or a key.

        Raises
        ------
        TypeError
            If it is neither.
        ValueError
            If the environment has no such variable, or its text is too short.
        """
        if isinstance(key, SecretKey):
            return key
        if not isinstance(key, str):
            raise TypeError(
                f"key: give the name of an environment variable or a SecretKey, and not a "
                f"{type(key).__name__}."
            )
        value = os.environ.get(key)
        if value is None:
            raise ValueError(
                f"key: the environment has no variable {key!r}. Set it to {_A_RANDOM_TEXT}."
            )
        return cls(_long_enough(value.encode("utf-8", "surrogatepass"), f"key {key!r}"))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> SecretKey:
        """Read a key from a file; line ends at its end are not part of the key.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ValueError
            If the file has fewer than 16 bytes.
        """
        return cls(_long_enough(Path(path).read_bytes().rstrip(b"\r\n"), str(path)))

    def digest(self, message: bytes) -> bytes:
        """Return HMAC-SHA256 of a message, 32 bytes."""
        return hmac.digest(self._value, message, "sha256")

    def __repr__(self) -> str:
        return "SecretKey(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(type(self))

    def __copy__(self) -> SecretKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SecretKey:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            "A SecretKey is not written to files. Put the key into an environment variable, and "
            "pass the name of the variable as key."
        )


def _long_enough(value: bytes, name: str) -> bytes:
    if len(value) < _LEAST_BYTES:
        raise ValueError(
            f"{name}: a key needs at least {_LEAST_BYTES} bytes, got {len(value)}. Use "
            f"secrets.token_bytes(32), or {_A_RANDOM_TEXT}."
        )
    return value
