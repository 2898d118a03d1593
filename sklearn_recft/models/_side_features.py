"""Features of users or of items: remembered by code, and returned as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_recft.features import FeatureColumn, refuse_other_kind
from sklearn_recft.models._feature_encoding import FeatureEncoding
from sklearn_recft.names import TEXT

if TYPE_CHECKING:
    from sklearn_recft.text import TextEncoder

    EncoderMaker = Callable[[list[str]], TextEncoder]

# What `SideFeatures.restore` needs.
Mark = tuple[Any, Any, int, np.ndarray, np.ndarray]


class SideFeatures:
    """Remember features of users, or of items, by code, as standardized numbers.

    The first columns that `fit` gets decide what is encoded:

    * A number is standardized by the mean and the deviation of the training rows.
    * A category, or a list of categories, is 1 in the column of each of its categories and 0 in the
      others, minus the mean of the column. The 100 most common categories of at least two rows
      have columns.
    * A vector is reduced to principal components, which are divided by the deviation of the first
      one. A text is a vector of the text encoder.

    So 0 is the mean. A missing value, an unknown category and an unknown code are 0 in all columns:
    they never raise an error. A feature that is constant or always missing in `fit` is not encoded.

    An id keeps the first features that were learned of it. Memory: 8 bytes for each column of
    `feature_names` and id.

    Parameters
    ----------
    per_user : bool
        Whether the codes are those of users.
    text_components : int, default=32
        Largest number of principal components.
    make_encoder : callable, default=None
        Returns a `TextEncoder` for the training texts. None ignores texts.

    Attributes
    ----------
    encodings : tuple of FeatureEncoding

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.features import to_feature
    >>> from sklearn_recft.models import SideFeatures
    >>> users = SideFeatures(per_user=True)
    >>> age = to_feature([20.0, 40.0, None], "age")
    >>> users.fit({"age": age})
    >>> users.learn(np.arange(3), {"age": age}, 3)
    array([0, 1])
    >>> users.matrix(np.array([0, 1, 2, -1]))
    array([[ 1., -1.],
           [ 1.,  1.],
           [ 1.,  0.],
           [ 1.,  0.]])
    """

    def __init__(
        self,
        *,
        per_user: bool,
        text_components: int = 32,
        make_encoder: EncoderMaker | None = None,
    ) -> None:
        self.per_user = per_user
        self.text_components = text_components
        self.make_encoder = make_encoder
        self.encodings: tuple[FeatureEncoding, ...] = ()
        self.encoder: TextEncoder | None = None
        self._size = 0
        self._rows, self._known = np.zeros((0, 0)), np.zeros(0, bool)

    def __len__(self) -> int:
        return self._size

    @property
    def columns(self) -> list[str]:
        """Name of each column that is encoded, texts left out."""
        return [encoding.name for encoding in self.encodings if encoding.kind != "text"]

    @property
    def feature_names(self) -> list[str]:
        """Name of each column of `matrix`."""
        return ["1", *(name for encoding in self.encodings for name in encoding.names)]

    @property
    def n_features(self) -> int:
        """Number of columns of `matrix`, the constant 1 included."""
        return 1 + self._rows.shape[1]

    def fit(self, columns: Mapping[str, FeatureColumn], n_threads: int = 1) -> None:
        """Decide how features are encoded, from the rows of the training ids.

        Parameters
        ----------
        columns : dict of str to FeatureColumn of length n
            One row for each id.
        n_threads : int, default=1
            Threads of the text encoder.
        """
        self.encodings, self.encoder = (), None
        fitted = []
        for name, column in columns.items():
            texts = column.used()[0] if column.kind == "text" else []
            if column.kind == "vector":
                vectors = column.levels[column.data[~column.is_missing]]
                fitted.append(
                    FeatureEncoding.of_vectors(name, "vector", vectors, self.text_components)
                )
            elif column.kind != "text":
                fitted.append(FeatureEncoding.of_column(name, column))
            elif self.make_encoder is not None and texts:
                self.encoder = self.make_encoder(texts)
                vectors = self.encoder.encode(texts, n_threads=n_threads)
                fitted.append(
                    FeatureEncoding.of_vectors(name, "text", vectors, self.text_components)
                )
        self.encodings = tuple(fitted)
        n_columns = sum(len(encoding.names) for encoding in fitted)
        self._size, self._rows, self._known = 0, np.zeros((0, n_columns)), np.zeros(0, bool)

    def learn(
        self,
        codes: np.ndarray,
        columns: Mapping[str, FeatureColumn],
        n_codes: int,
        n_threads: int = 1,
    ) -> np.ndarray:
        """Remember the features of codes that have none yet; others keep theirs.

        Parameters
        ----------
        codes : ndarray of shape (n,)
            Distinct codes.
        columns : dict of str to FeatureColumn of length n
            Columns that are absent count as missing.
        n_codes : int
            Number of codes that exist now.
        n_threads : int, default=1

        Returns
        -------
        learned : ndarray of shape (m,)
            The codes whose features are new.

        Raises
        ------
        ValueError
            If `fit` had no such column, or vectors of another width.
        TypeError
            If a column is of another kind than in `fit`.
        """
        self.check(columns)
        self._grow(n_codes)
        given = np.zeros(len(codes), bool)
        for encoding in self.encodings:
            if encoding.name in columns:
                given |= ~columns[encoding.name].is_missing
        new = np.flatnonzero(given & ~self._known[codes])
        if len(new):
            some = {name: column.take(new) for name, column in columns.items()}
            self._rows[codes[new]] = self.transform(some, len(new), n_threads)[:, 1:]
            self._known[codes[new]] = True
        return codes[new]

    def check(self, columns: Mapping[str, FeatureColumn]) -> None:
        """Raise an error for columns that are not those of `fit`; columns may be absent."""
        kinds = {encoding.name: encoding for encoding in self.encodings}
        ids = "users" if self.per_user else "items"
        unknown = [name for name in columns if name not in kinds and name != TEXT]
        if unknown:
            raise ValueError(
                f"{ids}: {unknown} are no features of fit, which were {list(kinds)}. Drop these "
                "columns, or call fit with them."
            )
        for name, column in columns.items():
            fitted = kinds.get(name)
            if fitted is not None:
                refuse_other_kind(column, name, fitted.kind, len(fitted.mean))

    def transform(
        self, columns: Mapping[str, FeatureColumn], n_rows: int, n_threads: int = 1
    ) -> np.ndarray:
        """Encode features of ids that are not remembered: (n_rows, n_features), 1 first."""
        out = np.zeros((n_rows, self.n_features))
        out[:, 0] = 1.0
        start = 1
        for encoding in self.encodings:
            stop = start + len(encoding.names)
            column = columns.get(encoding.name)
            if column is not None and stop > start:
                read = self._read if encoding.kind == "text" else _plainly
                out[:, start:stop] = read(encoding, column, n_threads)
            start = stop
        return out

    def matrix(self, codes: np.ndarray) -> np.ndarray:
        """Return the features of codes, (n, n_features): 1 first; unknown ones are the mean."""
        out = np.zeros((len(codes), self.n_features))
        out[:, 0] = 1.0
        here = (codes >= 0) & (codes < self._size)
        out[here, 1:] = self._rows[codes[here]]
        return out

    def mark(self, *rows: Any) -> Mark:
        """Return what `restore` needs to undo later calls of `learn` for these codes, and `fit`.

        Without codes, all of them are kept.
        """
        codes = np.unique(rows[0]) if rows else np.arange(self._size)
        codes = codes[(codes >= 0) & (codes < self._size)]
        return self.encodings, self.encoder, self._size, codes, self._known[codes]

    def restore(self, mark: Mark) -> None:
        """Undo all changes since ``mark``; ids that had features then have not changed."""
        self.encodings, self.encoder, self._size, codes, known = mark
        width = sum(len(encoding.names) for encoding in self.encodings)
        if self._rows.shape[1] != width:  # fit was undone: nothing had been learned before it
            self._rows, self._known = np.zeros((0, width)), np.zeros(0, bool)
            return
        forgotten = codes[~known]
        self._rows[forgotten], self._known[forgotten] = 0.0, False
        self._rows[self._size :], self._known[self._size :] = 0.0, False

    def state(self) -> dict[str, Any]:
        """Return the encodings, and the rows by code."""
        return {
            "encodings": [encoding.state() for encoding in self.encodings],
            "encoder": None if self.encoder is None else self.encoder.state(),
            "rows": self._rows[: self._size].copy(),
            "known": self._known[: self._size].copy(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.encodings = tuple(FeatureEncoding(**plain) for plain in state["encodings"])
        self.encoder = None
        if state["encoder"] is not None:
            from sklearn_recft.text import TextEncoder  # loads torch

            self.encoder = TextEncoder.from_state(state["encoder"])
        self._rows, self._known = state["rows"].copy(), state["known"].copy()
        self._size = len(self._rows)

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes), and renumber the others to close the gaps."""
        if self.per_user:
            users = users[users < self._size]  # the last users may be without features
            self._rows = np.delete(self._rows[: self._size], users, axis=0)
            self._known = np.delete(self._known[: self._size], users)
            self._size = len(self._rows)

    # ------------------------------------------------------------------ private

    def _read(self, encoding: FeatureEncoding, column: FeatureColumn, n_threads: int) -> np.ndarray:
        """Encode texts one by one, so that a vector does not depend on the others."""
        texts, places = column.used()
        read = np.zeros((len(texts) + 1, len(encoding.names)))  # the last row: missing texts
        if texts and self.encoder is not None:
            vectors = self.encoder.encode(texts, n_threads=n_threads, separately=True)
            read[:-1] = encoding.transform_vectors(vectors)
        return read[places]

    def _grow(self, n_codes: int) -> None:
        if n_codes > len(self._rows):
            size = max(n_codes, len(self._rows) * 3 // 2)
            rows, known = np.zeros((size, self._rows.shape[1])), np.zeros(size, bool)
            rows[: self._size], known[: self._size] = (
                self._rows[: self._size],
                self._known[: self._size],
            )
            self._rows, self._known = rows, known
        self._size = max(self._size, n_codes)


def _plainly(encoding: FeatureEncoding, column: FeatureColumn, n_threads: int) -> np.ndarray:
    return encoding.transform(column)
