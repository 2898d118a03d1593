"""Features of a place: distance to the item, cells of a grid, closeness to learned centers."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from sklearn_recft.columns import is_absent, is_number, plain, to_ids
from sklearn_recft.names import ITEM, are_numbered, as_roles
from sklearn_recft.tables import Table, columns_of
from sklearn_recft.vocabulary import Vocabulary

_RADIUS = 6371.0088  # of the Earth in km: the mean radius
_KM_PER_DEGREE = _RADIUS * np.pi / 180
_COUNT = Interval(Integral, 0, None, closed="left")


class GeoFeatures(TransformerMixin, BaseEstimator):
    """Numeric features of the latitude and the longitude of each row.

    Each row gets

    * whether its place is unknown,
    * the logarithm of the distance in km to the place of its item, if ``item_places`` is given,
    * the cell of a grid that it is in, as a category,
    * its closeness to centers that `fit` finds by k-means.

    Parameters
    ----------
    columns : (str, str), default=("latitude", "longitude")
        Columns of a frame, in degrees. In an array, the first two columns.
    item_places : dict or table, default=None
        Latitude and longitude of items: a dict of pairs by id, or a table with the column
        ``item_id`` and the two ``columns``. ``X`` then needs the column ``item_id``.
    cell_km : float, default=25.0
        Height and width of a cell.
    max_cells : int, default=32
        The cells with most rows in `fit` that are categories of their own; 0 for no cells.
    encode : {"onehot", "ordinal"}, default="onehot"
        "onehot" makes a column of each cell, 0 or 1. "ordinal" makes one column of the numbers of
        cells, for models with embeddings; -1 is any other cell.
    n_centers : int, default=8
        Number of centers; 0 for none.
    bandwidth_km : float, default=None
        Distance over which closeness falls to 0.61. None is the median distance of the places in
        `fit` to their nearest center, at least 1 km.
    random_state : int, RandomState or None, default=None
        Seed of k-means.

    Attributes
    ----------
    cells_ : ndarray of shape (n_cells, 2)
        Latitude and longitude of the middle of each cell, the one with most rows first.
    centers_ : ndarray of shape (n_centers_, 2)
        Latitude and longitude; there are fewer than ``n_centers`` if `fit` saw fewer places.
    bandwidth_km_ : float
    mean_distance_ : float
        Mean of the logarithm of known distances in `fit`.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    See Also
    --------
    ActivityFeatures : What users and items did before each row.

    Notes
    -----
    The distance d is that on the sphere (haversine formula), and the feature is ``log(1 + d)``, d
    in km. The closeness to a center is ``exp(-d^2 / (2 bandwidth^2))``. Cells are cut in rows of
    equal height, and each row in cells of equal width at its middle, so that they have the same
    area everywhere. k-means runs on points of the unit sphere, so the date line does not matter.

    NaN, or None, is an unknown place. It is in no cell (0 in all columns, or -1) and close to no
    center (0), and its distance is ``mean_distance_``. The same distance stands for items without a
    place.

    A query of `recommend` has no item, so it has no distance: lists use cells and centers, and
    `predict` also distances.

    Raises
    ------
    ValueError
        In `fit` and `transform`: a latitude outside of -90 to 90, or a longitude outside of -180 to
        180; the message names the column and the number of rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft.preprocessing import GeoFeatures
    >>> X = pd.DataFrame({"latitude": [52.52, 48.14, None], "longitude": [13.40, 11.58, None],
    ...                   "item_id": ["pizza", "pizza", "pizza"]})
    >>> geo = GeoFeatures(item_places={"pizza": (52.50, 13.45)}, max_cells=2, n_centers=0)
    >>> geo.set_output(transform="pandas").fit_transform(X).round(2)
       place_unknown  log_distance  cell_0  cell_1
    0            0.0          1.62     0.0     1.0
    1            0.0          6.22     1.0     0.0
    2            1.0          3.92     0.0     0.0
    """

    _parameter_constraints: ClassVar[dict] = {
        "columns": [tuple, list],
        "item_places": "no_validation",
        "cell_km": [Interval(Real, 0, None, closed="neither")],
        "max_cells": [_COUNT],
        "encode": [StrOptions({"onehot", "ordinal"})],
        "n_centers": [_COUNT],
        "bandwidth_km": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        columns: tuple[str, str] = ("latitude", "longitude"),
        *,
        item_places: Any = None,
        cell_km: float = 25.0,
        max_cells: int = 32,
        encode: str = "onehot",
        n_centers: int = 8,
        bandwidth_km: float | None = None,
        random_state: Any = None,
    ) -> None:
        self.columns = columns
        self.item_places = item_places
        self.cell_km = cell_km
        self.max_cells = max_cells
        self.encode = encode
        self.n_centers = n_centers
        self.bandwidth_km = bandwidth_km
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> GeoFeatures:
        """Find the most frequent cells, and centers of the known places.

        Parameters
        ----------
        X : table of shape (n, n_columns)
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object
        """
        if len(self.columns) != 2 or len(set(self.columns)) != 2:
            raise ValueError(
                "columns must be the names of two columns, latitude and longitude; got "
                f"{self.columns!r}."
            )
        items = None if self.item_places is None else _Items(self.item_places, self.columns)
        table = Table.of(X)
        places = _places(table, self.columns)
        logs = None if items is None else self._log_distances(table, places, items)
        known = places[~np.isnan(places).any(axis=1)]
        cells = _cells_of(known, float(self.cell_km))
        found, counts = np.unique(cells, axis=0, return_counts=True)
        kept = np.argsort(-counts, kind="stable")[: self.max_cells]
        centers = self._find_centers(known)
        validate_data(self, X, reset=True, skip_check_array=True)
        self._items, self._encode, self._cell_km = items, self.encode, float(self.cell_km)
        self._columns = tuple(self.columns)
        self._cells, self._has_cells = found[kept], self.max_cells > 0
        self.cells_ = _middles(self._cells, self._cell_km)
        self.centers_ = centers
        self.bandwidth_km_ = self._bandwidth(known, centers)
        measured = np.empty(0) if logs is None else logs[~np.isnan(logs)]
        self.mean_distance_ = float(measured.mean()) if len(measured) else 0.0
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of rows.

        Parameters
        ----------
        X : table of shape (n, n_columns)
            With the columns of `fit`.

        Returns
        -------
        features : ndarray or frame of shape (n, n_features_out), float64
        """
        check_is_fitted(self)
        table = Table.of(X)
        array = isinstance(table.values, np.ndarray)
        validate_data(self, table.values if array else X, reset=False, skip_check_array=True)
        places = _places(table, self._columns)
        unknown = np.isnan(places).any(axis=1)
        parts = [unknown[:, None].astype(np.float64)]
        if self._items is not None:
            logs = self._log_distances(table, places, self._items)
            parts.append(np.where(np.isnan(logs), self.mean_distance_, logs)[:, None])
        if self._has_cells:
            parts.append(self._encoded_cells(places, unknown))
        if len(self.centers_):
            away = _distances(places[:, None], self.centers_[None]) / self.bandwidth_km_
            parts.append(np.where(unknown[:, None], 0.0, np.exp(-(away**2) / 2)))
        return np.hstack(parts)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Must be the names of `fit`, if given.

        Returns
        -------
        names : ndarray of shape (n_features_out,), object
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        names = ["place_unknown"] + ["log_distance"] * (self._items is not None)
        if self._has_cells:
            one = self._encode == "ordinal"
            names += ["cell"] if one else [f"cell_{j}" for j in range(len(self._cells))]
        names += [f"center_{j}" for j in range(len(self.centers_))]
        return np.array(names, dtype=object)

    # ------------------------------------------------------------------ private

    def _log_distances(self, table: Table, places: np.ndarray, items: _Items) -> np.ndarray:
        """Return ``log(1 + km)`` (n,) from places to those of the rows' items, NaN if unknown."""
        names = [] if table.names is None else as_roles(table.names)
        if ITEM not in names:
            raise ValueError(
                f"item_places: distances need the column {ITEM} of a frame: found {names}. Add it "
                "to X, or set item_places to None."
            )
        ids = to_ids(table.values.get_column(table.names[names.index(ITEM)]), ITEM)  # type: ignore[index]
        return np.log1p(_distances(places, items.of(ids)))

    def _encoded_cells(self, places: np.ndarray, unknown: np.ndarray) -> np.ndarray:
        cells = np.full((len(places), 2), np.iinfo(np.int64).min)
        cells[~unknown] = _cells_of(places[~unknown], self._cell_km)
        same = (cells[:, None] == self._cells[None]).all(axis=2)  # (n, n_cells)
        if self._encode == "onehot":
            return same.astype(np.float64)
        if not same.shape[1]:
            return np.full((len(places), 1), -1.0)
        return np.where(same.any(axis=1), same.argmax(axis=1), -1.0)[:, None]

    def _find_centers(self, known: np.ndarray) -> np.ndarray:
        distinct = np.unique(known, axis=0)
        n = min(self.n_centers, len(distinct))
        if not n:
            return np.empty((0, 2))
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        means = MiniBatchKMeans(n, n_init=3, random_state=seed).fit(_on_sphere(known))
        return _degrees_of(means.cluster_centers_)

    def _bandwidth(self, known: np.ndarray, centers: np.ndarray) -> float:
        if self.bandwidth_km is not None:
            return float(self.bandwidth_km)
        if not len(centers):
            return 1.0
        nearest = np.min([_distances(known, center) for center in centers], axis=0)
        return max(float(np.median(nearest)), 1.0)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class _Items:
    """Places of items by id."""

    def __init__(self, given: Any, columns: Any) -> None:
        if isinstance(given, Mapping):
            ids, rows = list(given), [tuple(place) for place in given.values()]
            if not ids or any(len(row) != 2 for row in rows):
                raise ValueError(
                    "item_places: give latitude and longitude of each item, such as "
                    "{'pizza': (52.5, 13.4)}."
                )
            listed = np.empty(len(ids), object)
            listed[:] = ids
            item_ids, pairs = to_ids(listed, "item_places"), list(zip(*rows, strict=True))
        else:
            found = columns_of(given, (ITEM, *columns))
            absent = [name for name in (ITEM, *columns) if name not in found]
            if absent:
                raise ValueError(
                    f"item_places: no column {' and no column '.join(absent)}: found {list(found)}."
                )
            item_ids, pairs = to_ids(found[ITEM], ITEM), [found[name] for name in columns]
        named = [f"item_places: {name}" for name in columns]
        self.ids = Vocabulary()
        codes = self.ids.extend(item_ids)
        first = np.unique(codes, return_index=True)[1]
        places = [_degrees(pairs[0], named[0], 90), _degrees(pairs[1], named[1], 180)]
        unknown = [[np.nan, np.nan]]  # of unknown items, whose code is -1
        self.places = np.concatenate([np.column_stack(places)[first], unknown])

    def of(self, ids: np.ndarray) -> np.ndarray:
        """Return the places (n, 2) of items, NaN for unknown ones."""
        places: np.ndarray = self.places[self.ids.encode(ids)]
        return places


def _places(table: Table, columns: Any) -> np.ndarray:
    """Return checked latitudes and longitudes (n, 2) in degrees, NaN where unknown."""
    latitude, longitude = map(str, columns)
    found = _columns(table, columns)
    return np.column_stack([_degrees(found[0], latitude, 90), _degrees(found[1], longitude, 180)])


def _columns(table: Table, columns: Any) -> list[Any]:
    """Return the columns of latitude and longitude: by name, or the first two."""
    if table.names is None or (are_numbered(table.names) and not set(columns) <= set(table.names)):
        values = table.values
        if values.ndim != 2 or values.shape[1] < 2:
            raise ValueError(
                f"Found array with {1 if values.ndim < 2 else values.shape[1]} feature(s) "
                f"(shape={tuple(values.shape)}) while a minimum of 2 is required: {columns[0]} and "
                f"{columns[1]}."
            )
        if not values.shape[0]:
            raise ValueError(
                f"Found array with 0 sample(s) (shape={tuple(values.shape)}) while a minimum of 1 "
                "is required: X is empty."
            )
        return [values[:, 0], values[:, 1]]
    absent = [name for name in columns if name not in table.names]
    if absent:
        raise ValueError(
            f"X has no column {' and no column '.join(absent)}: found {list(table.names)}. Name "
            "the columns of latitude and longitude by columns=(..., ...)."
        )
    return [table.values.get_column(name) for name in columns]


def _degrees(column: Any, name: str, largest: int) -> np.ndarray:
    """Return degrees (n,) from -largest to largest, NaN where missing."""
    values = plain(column)
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{name}\n")
    if values.dtype.kind not in "iuf":
        values = _numbers(values, name)
    degrees = values.astype(np.float64)
    wrong_rows = np.abs(degrees) > largest
    if wrong_rows.any():
        infinite = int(np.isinf(degrees).sum())
        fix = (
            "Are latitude and longitude swapped?"
            if largest == 90
            else "Subtract 360 from degrees east above 180."
        )
        raise ValueError(
            f"{name}: {int(wrong_rows.sum())} of {len(degrees)} rows are outside of -{largest} to "
            f"{largest} degrees, the first {degrees[wrong_rows][0]:g} ({infinite} are inf). {fix} "
            "An unknown place is NaN."
        )
    return degrees


def _numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Return values of other types as float64, NaN where missing."""
    listed = [np.nan if is_absent(value) else value for value in values.tolist()]
    wrong = [value for value in listed if not (is_number(value) or is_absent(value))]
    if not wrong:
        return np.array([float(value) for value in listed])
    message = (
        f"{name}: {len(wrong)} of {len(listed)} rows are no numbers, the first {wrong[0]!r}; give "
        "degrees as numbers, and None or NaN where they are unknown."
    )
    if isinstance(wrong[0], str):
        raise ValueError(message)
    raise TypeError(f"{message} (argument must be a string or a number)")


def _distances(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the distances in km between places (..., 2) by the haversine formula."""
    first, second = np.radians(places), np.radians(others)
    half = np.sin((second - first) / 2) ** 2
    across = np.cos(first[..., 0]) * np.cos(second[..., 0]) * half[..., 1]
    distances: np.ndarray = 2 * _RADIUS * np.arcsin(np.sqrt(np.minimum(half[..., 0] + across, 1)))
    return distances


def _cells_of(places: np.ndarray, km: float) -> np.ndarray:
    """Return row and number in the row (n, 2), int64, of the cells of known places."""
    rows = np.floor(places[:, 0] * _KM_PER_DEGREE / km)
    return np.column_stack([rows, np.floor(places[:, 1] / _widths(rows, km))]).astype(np.int64)


def _widths(rows: np.ndarray, km: float) -> np.ndarray:
    """Return the width (n,) in degrees of the cells of each row."""
    middle = np.clip((rows + 0.5) * km / _KM_PER_DEGREE, -89.9, 89.9)
    widths: np.ndarray = km / (_KM_PER_DEGREE * np.cos(np.radians(middle)))
    return widths


def _middles(cells: np.ndarray, km: float) -> np.ndarray:
    """Return the middles (n, 2) of cells in degrees."""
    rows = cells[:, 0].astype(np.float64)
    longitude = (cells[:, 1] + 0.5) * _widths(rows, km)
    return np.column_stack([(rows + 0.5) * km / _KM_PER_DEGREE, longitude])


def _on_sphere(places: np.ndarray) -> np.ndarray:
    """Return points (n, 3) of the unit sphere."""
    latitude, longitude = np.radians(places).T
    across = np.cos(latitude)
    return np.column_stack(
        [across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)]
    )


def _degrees_of(points: np.ndarray) -> np.ndarray:
    """Return the places (n, 2) in degrees in the direction of points (n, 3)."""
    x, y, z = points.T
    return np.degrees(np.column_stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)]))
