"""Lists of the best eligible items: ranked in blocks, padded, as arrays or as a long table."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.utils import check_scalar

from sklearn_recft.events import Interactions
from sklearn_recft.interactions import ITEM, USER
from sklearn_recft.lists._eligible import Choice, Eligibility, Offer
from sklearn_recft.lists._index import RowIndex
from sklearn_recft.models import FittedModel
from sklearn_recft.ranking import RowScan, check_ranked, top_k
from sklearn_recft.tables import is_frame

_ON_MISSING = ("raise", "pad")


@dataclass(frozen=True)
class ListOptions:
    """Options of ``recommend``, as they were given.

    Attributes
    ----------
    n_recommendations : int
    candidates, exclude : object
    exclude_seen : bool
    on_missing : {"raise", "pad"}
    library : object or None
        What `frame_library` returned: None returns arrays.
    index : RowIndex or None
        What finds the best items of single queries in place of all scores.
    """

    n_recommendations: int = 10
    candidates: Any = None
    exclude: Any = None
    exclude_seen: bool = True
    on_missing: str = "raise"
    library: Any = None
    index: RowIndex | None = None

    def check(self) -> None:
        """Raise where an option has no meaning."""
        check_length("n_recommendations", self.n_recommendations)
        check_flag("exclude_seen", self.exclude_seen)
        check_on_missing(self.on_missing)


def check_length(name: str, n: Any) -> None:
    """Raise where ``n`` is no length of a list."""
    if type(n) is int and n >= 1:
        return
    if isinstance(n, bool):
        raise TypeError(f"{name}={n}: give the number of items.")
    check_scalar(n, name, Integral, min_val=1)


def check_on_missing(given: Any) -> None:
    """Raise where ``on_missing`` is unknown."""
    if given not in _ON_MISSING:
        raise ValueError(f"on_missing must be 'raise' or 'pad', got {given!r}.")


def frame_library(X: Any, as_frame: bool) -> Any:
    """Return the frame library of ``X``, pandas if it is no frame; None if not ``as_frame``."""
    check_flag("as_frame", as_frame)
    if not as_frame:
        return None
    if is_frame(X):
        return nw.from_native(X, eager_only=True, allow_series=True).implementation
    if importlib.util.find_spec("pandas") is None:
        raise ImportError(
            "as_frame=True returns a pandas.DataFrame if X is no data frame, and pandas is not "
            "installed: pip install pandas, or pass a frame of another library."
        )
    return nw.Implementation.PANDAS


def recommend_lists(
    model: FittedModel, queries: Interactions, options: ListOptions, n_threads: int
) -> Any:
    """Return the lists of queries that are checked, as ``recommend`` returns them."""
    options.check()
    candidates = Choice.of(options.candidates, "candidates")
    exclude = Choice.of(options.exclude, "exclude")
    whole = options.on_missing == "raise"
    with model.reading():
        eligible = Eligibility(
            model, queries.user_ids, candidates, exclude, bool(options.exclude_seen), whole
        )
        codes, raw, sizes = _rank(model, queries, eligible, options, n_threads)
        check_ranked(codes, sizes)
        found = Ranked(codes, model.inverse_link(raw.astype(np.float64)), sizes)
        if options.library is not None:
            return long_table(model, {USER: queries.user_ids}, ITEM, found, options.library)
        return as_arrays(model, found, None if whole else int(options.n_recommendations))


@dataclass(frozen=True)
class Ranked:
    """Lists of n queries, of at most k items.

    Attributes
    ----------
    codes : ndarray of shape (n, k), int64
        Item codes, best first; anything behind the end of a list.
    scores : ndarray of shape (n, k), float64
    sizes : ndarray of shape (n,)
        Length of each list.
    """

    codes: np.ndarray
    scores: np.ndarray
    sizes: np.ndarray

    @property
    def filled(self) -> np.ndarray:
        """Whether each place (n, k) is inside of its list."""
        return np.arange(self.codes.shape[1]) < self.sizes[:, None]


def as_arrays(
    model: FittedModel, found: Ranked, width: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return item ids and scores; with a ``width``, padded to it by None and -inf."""
    codes, scores = found.codes, found.scores
    if width is None:
        return model.items.decode(codes), scores
    shape, filled = (len(codes), width), found.filled
    items, padded = np.full(shape, None, object), np.full(shape, -np.inf)
    part = slice(codes.shape[1])
    items[:, part][filled] = model.items.decode(codes[filled])
    padded[:, part][filled] = scores[filled]
    return items, padded


def _rank(
    model: FittedModel,
    queries: Interactions,
    eligible: Eligibility,
    options: ListOptions,
    n_threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return item codes (n, k), -1 behind the end of a list, scores (n, k) and sizes (n,)."""
    n, step = len(queries), eligible.rows_at_once
    if n <= step:
        return _rank_block(model, queries, eligible, options, n_threads, slice(0, n))
    k = min(int(options.n_recommendations), model.n_items)
    codes, scores = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    sizes = np.empty(n, np.int64)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        some = queries.take(np.arange(rows.start, rows.stop))
        ranked = _rank_block(model, some, eligible, options, n_threads, rows)
        codes[rows], scores[rows], sizes[rows] = ranked
    return codes, scores, sizes


def _rank_block(
    model: FittedModel,
    queries: Interactions,
    eligible: Eligibility,
    options: ListOptions,
    n_threads: int,
    rows: slice,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `_rank` does for the queries at ``rows`` of all queries."""
    k, offer = min(int(options.n_recommendations), model.n_items), eligible.block(rows)
    if options.on_missing == "raise":
        _check_enough(offer, options.n_recommendations, queries.user_ids)
    sizes = np.minimum(offer.sizes, k)
    width = int(sizes.max())
    if not width:
        return np.full((len(sizes), k), -1), np.full((len(sizes), k), -np.inf, np.float32), sizes
    tiles = model.tile_scorer(eligible.users(rows), offer.columns, queries)
    found = None
    if options.index is not None and isinstance(tiles, RowScan) and not offer.among:
        found = options.index.top_k(tiles, width, offer.places)
    codes, scores = found or top_k(
        tiles,
        len(sizes),
        len(offer.columns),
        width,
        offer.indptr,
        offer.places,
        among=offer.among,
        n_threads=n_threads,
    )
    if len(offer.columns) < model.n_items:
        codes = np.where(codes >= 0, offer.columns[codes], -1)
    if width < k:
        behind = ((0, 0), (0, k - width))
        codes = np.pad(codes, behind, constant_values=-1)
        scores = np.pad(scores, behind, constant_values=-np.inf)
    return codes, scores, sizes


def _check_enough(offer: Offer, wanted: int, user_ids: np.ndarray) -> None:
    least = int(offer.sizes.min())
    if least < wanted:
        row = int(offer.sizes.argmin())
        (user,) = user_ids[row : row + 1].tolist()
        raise ValueError(
            f"n_recommendations={wanted}, but user {user!r} has only {least} eligible items; ask "
            "for fewer, give more candidates, exclude fewer (see exclude_seen), or pass "
            "on_missing='pad' for shorter lists."
        )


def check_flag(name: str, value: Any) -> None:
    """Raise where ``value`` is no bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def long_table(
    model: FittedModel, queries: dict[str, np.ndarray], item: str, found: Ranked, library: Any
) -> Any:
    """Return one row per listed item: the query's columns, rank from 1, item and score."""
    filled = found.filled
    query, place = np.nonzero(filled)
    columns = {name: ids[query] for name, ids in queries.items()}
    columns |= {"rank": place + 1, item: model.items.decode(found.codes[filled])}
    columns["score"] = found.scores[filled]
    series = [_series(name, values, library) for name, values in columns.items()]
    return nw.from_dict({one.name: one for one in series}).to_native()


def _series(name: str, values: np.ndarray, library: Any) -> Any:
    listed = values.tolist() if values.dtype.kind == "O" else values
    try:
        return nw.new_series(name, listed, backend=library)
    except Exception as error:  # every library has errors of its own
        why = str(error).partition("\n")[0]
        raise ValueError(
            f"{name}: {library} has no column for these ids ({why}); pass as_frame=False."
        ) from error
