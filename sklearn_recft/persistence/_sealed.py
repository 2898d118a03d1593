"""Encrypted files: segments of AES-256-GCM, each with its number and a flag of the last."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from sklearn_recft.preprocessing import SecretKey

SEGMENT = 1 << 20  # bytes that are encrypted at once, and found to be damaged or not
_TAG = 16  # bytes that each segment takes more
_SALT = 32
_PURPOSE = b"sklearn_recft save\0"  # the same key may also be that of pseudonyms


class Sealing:
    """The keys of the files of one folder.

    Each file has its own key, ``HMAC-SHA256(key, purpose | role | salt)`` with 32 random bytes as
    the salt of each writing. So no key encrypts twice, numbers of segments can be the nonces, and a
    file of another save or role does not open. The segments follow STREAM (Hoang, Reyhanitabar,
    Rogaway and Vizár, 2015): a nonce is the number of the segment, 11 bytes, and whether it is the
    last one, so that segments cannot be left out, doubled, moved or cut off.

    Parameters
    ----------
    key : str or SecretKey
        Name of an environment variable with the key, or the key itself.

    Raises
    ------
    ImportError
        If the package cryptography is not installed.
    """

    def __init__(self, key: str | SecretKey) -> None:
        from sklearn_recft.preprocessing import SecretKey

        self._key = SecretKey.of(key)
        self._cipher = _cipher()

    def new_salt(self) -> bytes:
        """Return the random salt of a file that is about to be written."""
        return os.urandom(_SALT)

    def check_of(self, salt: bytes) -> str:
        """Return what tells this key from others: 32 hexadecimal digits."""
        return self._key.digest(_PURPOSE + b"check\0" + salt)[:16].hex()

    def tag_of(self, digest: str) -> str:
        """Return what stands for a digest in a name that everyone can read."""
        return self._key.digest(_PURPOSE + b"digest\0" + digest.encode("ascii")).hex()

    def writer(self, file: BinaryIO, role: str, salt: bytes) -> SealedWriter:
        """Return what encrypts a file of a role."""
        return SealedWriter(file, self._encrypt(role, salt))

    def reader(self, file: BinaryIO, role: str, salt: bytes, size: int) -> SealedReader:
        """Return what decrypts a file of a role, with ``size`` bytes when decrypted."""
        return SealedReader(file, self._decrypt(role, salt), size)

    def seal(self, text: bytes, role: str, salt: bytes, bound: bytes) -> bytes:
        """Encrypt a short text, which opens only together with the readable text ``bound``."""
        return self._encrypt(role, salt)(_nonce(0, True), text, bound)

    def open(self, sealed: bytes, role: str, salt: bytes, bound: bytes) -> bytes:
        """Decrypt what `seal` returned."""
        return self._decrypt(role, salt)(_nonce(0, True), sealed, bound)

    def _encrypt(self, role: str, salt: bytes) -> Callable[..., bytes]:
        encrypt: Callable[..., bytes] = self._cipher(self._derived(role, salt)).encrypt
        return encrypt

    def _decrypt(self, role: str, salt: bytes) -> Callable[..., bytes]:
        cipher = self._cipher(self._derived(role, salt))

        def decrypt(nonce: bytes, data: bytes, bound: bytes | None) -> bytes:
            from cryptography.exceptions import InvalidTag

            try:
                text: bytes = cipher.decrypt(nonce, data, bound)
            except InvalidTag:
                raise ValueError("it is damaged, or a file of another save") from None
            return text

        return decrypt

    def _derived(self, role: str, salt: bytes) -> bytes:
        return self._key.digest(_PURPOSE + role.encode("ascii") + b"\0" + salt)


class SealedWriter:
    """Encrypt what is written to a file; only encrypted bytes reach it.

    Parameters
    ----------
    file : binary file
    encrypt : callable
        Of a nonce, a block and None.
    """

    def __init__(self, file: BinaryIO, encrypt: Callable[..., bytes]) -> None:
        self._file, self._encrypt = file, encrypt
        self._held = bytearray()  # not encrypted yet: it may be the last segment
        self._number = 0

    def write(self, block: Any) -> int:
        """Write bytes."""
        view = memoryview(block)
        n_bytes = len(view)
        while len(self._held) + len(view) > SEGMENT:
            taken = SEGMENT - len(self._held)
            if self._held:
                self._held += view[:taken]
                self._seal(self._held, False)
                self._held = bytearray()
            else:
                self._seal(view[:taken], False)
            view = view[taken:]
        self._held += view
        return n_bytes

    def finish(self) -> None:
        """Write the last segment."""
        self._seal(self._held, True)
        self._held = bytearray()

    def _seal(self, block: Any, is_last: bool) -> None:
        self._file.write(self._encrypt(_nonce(self._number, is_last), block, None))
        self._number += 1


class SealedReader:
    """Decrypt a file; no byte of a segment is returned before the segment was found to be whole.

    Parameters
    ----------
    file : binary file
        It has ``sealed_size(size)`` bytes.
    decrypt : callable
        Of a nonce, a block and None.
    size : int
        Number of bytes when decrypted.
    """

    def __init__(self, file: BinaryIO, decrypt: Callable[..., bytes], size: int) -> None:
        self._file, self._decrypt = file, decrypt
        self._size, self._last = size, _last_segment(size)
        self._number = 0
        self._open = memoryview(b"")

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes, fewer at the end of the file."""
        found = bytearray()
        while len(found) < n_bytes and self._fill():
            found += self._take(n_bytes - len(found))
        return bytes(found)

    def readinto(self, block: Any) -> int:
        """Read the next bytes into a block; return how many."""
        view, at = memoryview(block), 0
        while at < len(view) and self._fill():
            part = self._take(len(view) - at)
            view[at : at + len(part)] = part
            at += len(part)
        return at

    def finish(self) -> None:
        """Check the segments that are left: one, if the file is empty."""
        while self._number <= self._last:
            self._next()

    def _take(self, n_bytes: int) -> memoryview:
        part, self._open = self._open[:n_bytes], self._open[n_bytes:]
        return part

    def _fill(self) -> bool:
        if not len(self._open) and self._number <= self._last:
            self._next()
        return len(self._open) > 0

    def _next(self) -> None:
        nonce = _nonce(self._number, self._number == self._last)
        text = self._decrypt(nonce, self._file.read(SEGMENT + _TAG), None)
        if len(text) != min(self._size - self._number * SEGMENT, SEGMENT):
            raise ValueError("it is damaged: it has another size than its manifest says")
        self._open = memoryview(text)
        self._number += 1


def sealed_size(size: int) -> int:
    """Return how many bytes a file of ``size`` bytes has when it is encrypted."""
    return size + _TAG * (_last_segment(size) + 1)


def _last_segment(size: int) -> int:
    return max(size - 1, 0) // SEGMENT


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _cipher() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ImportError(
            "key: encrypted files need cryptography: pip install 'sklearn-recft[privacy]'."
        ) from error
    return AESGCM
