"""Downloads: a file arrives whole and verified, or not at all."""

import hashlib
import http.client
import os
import tempfile
import time
import urllib.request
from pathlib import Path

_CHUNK = 1 << 20


def sha256_of(path):
    """Return the hexadecimal SHA-256 digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch_file(url, path, sha256, *, n_retries=3, delay=1.0, timeout=30.0):
    """Download `url` to `path`.

    The bytes go to a temporary file beside `path`, which takes its name in one step after the
    checksum has been verified: an interrupted or damaged download never leaves a file behind.

    Parameters
    ----------
    url : str
        Address of the file.
    path : Path
        Where the file shall be.
    sha256 : str
        Hexadecimal digest the content must have.
    n_retries : int, default=3
        How often to try again after a failure.
    delay : float, default=1.0
        Seconds between two attempts.
    timeout : float, default=30.0
        Seconds the server may stay silent.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OSError
        The file could not be downloaded, or what came has another checksum.
    """
    path = Path(path)
    for attempt in range(n_retries + 1):
        try:
            return _download(url, path, sha256, timeout)
        except (OSError, http.client.HTTPException) as exc:
            error = exc
            if attempt < n_retries:
                time.sleep(delay)
    raise OSError(
        f"Could not download {url} in {n_retries + 1} attempt(s): {error}. Without a network, put "
        f"the file at {path} yourself."
    ) from error


def _download(url, path, sha256, timeout):
    handle, temporary = tempfile.mkstemp(prefix=f"{path.name}.part_", dir=path.parent)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.urlopen(url, timeout=timeout) as answer,
        ):
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
        found = sha256_of(temporary)
        if found != sha256:
            raise OSError(f"its SHA-256 is {found}, expected {sha256}")
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path
