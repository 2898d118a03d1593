"""A text file opened as text: compressed or not, in its encoding; errors name the file."""

import contextlib
import importlib
import io
import lzma
import zipfile
import zlib

# First bytes of files that are not text.
_MAGIC = {
    b"\x1f\x8b": "a gzip file: let its name end in .gz",
    b"PK\x03\x04": "a zip file, or one of Excel: let its name end in .zip, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "a Zstandard file: let its name end in .zst",
    b"BZh": "a bzip2 file: let its name end in .bz2",
    b"\xfd7zXZ": "an xz file: let its name end in .xz",
    b"PAR1": "a Parquet file: let its name end in .parquet",
    b"\xd0\xcf\x11\xe0": "a file of Excel: save it as CSV",
    b"SQLite": "a database of SQLite: export a table as CSV",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")


@contextlib.contextmanager
def open_text(path, encoding):
    """Open a text file for reading; name it in what goes wrong.

    Parameters
    ----------
    path : Path
        Its ending says how it is compressed: .gz, .bz2, .xz, .zip (of one file) or .zst.
    encoding : str
        UTF-16 is recognised by its mark, whatever is given.

    Raises
    ------
    ValueError
        Damaged, of another kind or in another encoding.
    """
    try:
        with _open_bytes(path) as file:
            start = file.read(8)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            encoding = "utf-16"
        elif encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
            encoding = "utf-8-sig"
        with (
            _open_bytes(path) as file,
            io.TextIOWrapper(file, encoding=encoding, newline="") as text,
        ):
            yield text
    except UnicodeError as error:
        raise ValueError(_no_text(path, start, encoding, error)) from error
    except LookupError as error:
        raise ValueError(f"{path}: {error}; give an encoding such as 'latin-1'.") from error
    except (EOFError, OSError, zlib.error, zipfile.BadZipFile, lzma.LZMAError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # no such file, not allowed to read it
        raise ValueError(
            f"{path} cannot be unpacked ({error}): it is damaged, or its name ends in "
            f"{path.suffix} though it is of another kind."
        ) from error


def _no_text(path, start, encoding, error):
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            return f"{path} is {what}."
    return (
        f"{path} is not text in {encoding.removesuffix('-sig')} ({error}). Pass its encoding, for "
        "example encoding='latin-1' (--encoding latin-1), or save it as UTF-8."
    )


def _open_bytes(path):
    ending = path.suffix.lower()
    if ending == ".zip":
        return _open_zip(path)
    if ending == ".zst":
        return _open_zst(path)
    modules = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}
    if ending in modules:
        return importlib.import_module(modules[ending]).open(path, "rb")
    return open(path, "rb")


@contextlib.contextmanager
def _open_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise ValueError(
                f"{path} holds {len(names)} files, {names[:5]}: unpack it and give one of them."
            )
        with archive.open(names[0]) as file:
            yield file


def _open_zst(path):
    for module in ("compression.zstd", "zstandard"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(module).open(path, "rb")
    raise ImportError(f"Reading {path} needs a module for .zst: pip install zstandard")
