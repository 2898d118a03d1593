"""MovieLens 100K and 1M: from a local copy where there is one, else from GroupLens."""

import io
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import get_data_home

from sklearn_recft.datasets._bunch import FEATURE_NAMES, interactions_bunch
from sklearn_recft.datasets._fetch import fetch_file, sha256_of
from sklearn_recft.datasets._files import read_table

ENVIRONMENT_VARIABLE = "SKLEARN_RECFT_DATA"

# fmt: off
_GENRES_100K = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
]
# fmt: on


@dataclass(frozen=True)
class _Release:
    folder: str
    url: str
    sha256: str
    ratings: str
    movies: str
    size: str


_RELEASES = {
    "100k": _Release(
        folder="ml-100k",
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ratings="u.data",
        movies="u.item",
        size="100,000 ratings of 1,682 films by 943 users, September 1997 to April 1998",
    ),
    "1m": _Release(
        folder="ml-1m",
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ratings="ratings.dat",
        movies="movies.dat",
        size="1,000,209 ratings of 3,706 films by 6,040 users, April 2000 to February 2003",
    ),
}

_DESCR = """\
MovieLens {name}: {size}.

Feedback: whole stars from 1 to 5. Half of the events share their second with the one before them of
the same user: sort by time with a stable sort, so that the order of the rows breaks the ties.

Source: https://grouplens.org/datasets/movielens/ (research use, no redistribution).
F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""


def fetch_movielens(
    name="100k",
    *,
    data_home=None,
    download_if_missing=True,
    return_X_y=False,
    as_frame=False,
    n_retries=3,
    delay=1.0,
):
    """Load the MovieLens ratings, downloading them if no copy is at hand.

    The first of these that exists is read: `interactions.parquet` and `items.parquet` in the folder
    `ml-100k` or `ml-1m` of the folder that the environment variable `SKLEARN_RECFT_DATA` names; the
    original files in such a folder of `data_home`, or in `data_home` itself; the original archive
    in `data_home`, where a download puts it.

    Parameters
    ----------
    name : {"100k", "1m"}, default="100k"
        Which release.
    data_home : str or Path, default=None
        Folder for data sets; None is scikit-learn's, see :func:`sklearn.datasets.get_data_home`.
    download_if_missing : bool, default=True
        If False, raise an OSError where no copy is found.
    return_X_y : bool, default=False
        Return `(data, target)` in place of a Bunch.
    as_frame : bool, default=False
        Return pandas objects in place of arrays.
    n_retries : int, default=3
        How often to try again when a download fails.
    delay : float, default=1.0
        Seconds between two attempts.

    Returns
    -------
    data : Bunch
        data : ndarray of int64 or DataFrame, of shape (n_ratings, 3)
            `user_id`, `item_id`, `timestamp` (seconds since 1970), in the order of the file.
        target : ndarray or Series of shape (n_ratings,)
            Stars, 1 to 5, float64.
        catalogue : Bunch or DataFrame
            `item_id`, `title` with the year, and `text`, one entry a film; includes films that
            nobody has rated. `text` is ``title: genre, genre``. For a list of genres, take
            ``catalogue.text.str.rsplit(": ", n=1).str[-1].str.split(", ")`` with `as_frame`.
            Profiles of users are not loaded.
        feature_names, target_names : list of str
            What the columns of `data` and `target` are called.
        DESCR : str
            What is known of the log.
    (data, target) : tuple
        If `return_X_y` is True.

    Raises
    ------
    ValueError
        Unknown `name`.
    OSError
        No copy is found and none could be, or may be, downloaded.
    ImportError
        The copy is Parquet and neither pyarrow nor polars is installed.

    Examples
    --------
    >>> from sklearn_recft.datasets import fetch_movielens
    >>> ratings = fetch_movielens("100k")  # doctest: +SKIP
    >>> ratings.data.shape  # doctest: +SKIP
    (100000, 3)
    """
    if name not in _RELEASES:
        raise ValueError(f"name must be one of {sorted(_RELEASES)}, got {name!r}.")
    release = _RELEASES[name]
    parquet = _parquet_folder(release)
    if parquet is not None:
        ratings, movies = _read_parquet(parquet)
    else:
        home = Path(get_data_home(data_home))
        files = _original_files(release, home, download_if_missing, n_retries, delay)
        ratings, movies = _parse_original(release, *files)
    return interactions_bunch(
        dict(zip(FEATURE_NAMES, ratings[:, [0, 1, 3]].T, strict=True)),
        ratings[:, 2].astype(np.float64),
        target_name="rating",
        catalogue=_catalogue(movies),
        descr=_DESCR.format(name=name.upper(), size=release.size),
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _parquet_folder(release):
    root = os.environ.get(ENVIRONMENT_VARIABLE)
    folder = Path(root, release.folder) if root else None
    found = folder is not None and (folder / "interactions.parquet").exists()
    return folder if found else None


def _read_parquet(folder):
    names = ["user_id", "item_id", "rating", "timestamp"]
    table, _ = read_table(folder / "interactions.parquet", names)
    ratings = np.column_stack([table[name].to_numpy().astype(np.int64) for name in names])
    table, _ = read_table(
        folder / "items.parquet", ["item_id", "title", "genres"], optional=["release_year"]
    )
    titles = table["title"]
    if "release_year" in table:
        years = [str(y) for y in table["release_year"]]
        titles = [f"{t} ({y})" if y.isdigit() else t for t, y in zip(titles, years, strict=True)]
    genres = [re.split(r"[| ]", entry) for entry in table["genres"]]
    return ratings, zip(table["item_id"], titles, genres, strict=True)


def _original_files(release, home, download_if_missing, n_retries, delay):
    """Return the bytes of the ratings and of the movies."""
    names = (release.ratings, release.movies)
    for folder in (home / release.folder, home):
        if all((folder / name).exists() for name in names):
            return [(folder / name).read_bytes() for name in names]
    archive = home / f"{release.folder}.zip"
    if not (archive.exists() and sha256_of(archive) == release.sha256):
        if not download_if_missing:
            raise OSError(
                f"No sound copy of {release.folder} in {home}, and download_if_missing=False. Set "
                f"{ENVIRONMENT_VARIABLE} or data_home to a folder that has one."
            )
        fetch_file(release.url, archive, release.sha256, n_retries=n_retries, delay=delay)
    with zipfile.ZipFile(archive) as opened:
        return [opened.read(f"{release.folder}/{name}") for name in names]


def _parse_original(release, ratings, movies):
    # ratings.dat separates by two colons: numpy knows one, so every second field is empty.
    separator, columns = ("\t", range(4)) if release.ratings == "u.data" else (":", range(0, 8, 2))
    table = np.loadtxt(
        io.BytesIO(ratings), dtype=np.int64, delimiter=separator, usecols=columns, ndmin=2
    )
    lines = movies.decode("latin-1").splitlines()
    parse = _parse_u_item if release.movies == "u.item" else _parse_movies_dat
    return table, [parse(line) for line in lines if line]


def _parse_u_item(line):
    cells = line.split("|")
    flags = cells[-len(_GENRES_100K) :]
    genres = [g for g, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1"]
    return int(cells[0]), cells[1], genres


def _parse_movies_dat(line):
    item_id, title, genres = line.split("::")
    return int(item_id), title, genres.split("|")


def _catalogue(movies):
    item_ids, titles, genres = zip(*movies, strict=True)
    text = [f"{title}: {', '.join(g)}" for title, g in zip(titles, genres, strict=True)]
    return {
        "item_id": np.array(item_ids, dtype=np.int64),
        "title": np.array(titles, dtype=object),
        "text": np.array(text, dtype=object),
    }
