"""Replace ids by keyed pseudonyms, which nobody can compute or undo without the key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.interactions import check_ids
from sklearn_recft.names import ITEM, USER
from sklearn_recft.preprocessing._replaced import replaced
from sklearn_recft.preprocessing._rows import read_rows, set_names
from sklearn_recft.preprocessing._secret_key import SecretKey


class Pseudonymizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Replace ids by pseudonyms: HMAC-SHA256 of the id under a secret key.

    Equal ids get equal pseudonyms, in every table and process with the same key. So a recommender
    behind this transformer learns the same as from the ids, but neither the model nor its files
    hold an id. Pseudonyms are still personal data: who has the key can compute the pseudonym of any
    id. Destroy the key to make the pseudonyms anonymous towards everyone.

    Parameters
    ----------
    key : str or SecretKey
        Name of an environment variable that holds the key, at least 16 bytes of text; or the key
        itself. The estimator holds the name alone, so it can be printed, cloned and pickled. A
        `SecretKey` can be printed and cloned, but not pickled.
    columns : sequence of {"user_id", "item_id"}, default=("user_id",)
        Columns to replace. Pseudonyms of users and of items with the same id differ. With
        "item_id", `recommend` returns pseudonyms of items: decode them by `vault`.
    kind : {"hex", "int64"}, default="hex"
        "hex": strings of 32 characters, 128 bits. "int64": integers of 63 bits, which take less
        memory. Two of a million ids share an integer with a probability of 5e-8.

    Attributes
    ----------
    key_check_ : str
        Eight hexadecimal digits that depend on the key. `transform` raises an error if the
        environment has another key than in `fit`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if ``X`` is a frame.

    Notes
    -----
    The message is the name of the column and the id with its type: 1 and "1" are two ids, 1 and 1.0
    are one. Ids are integers, floats, strings, bytes, or tuples of them. No id is stored: the table
    of pseudonyms and ids (`vault`) is yours to keep, and to delete from.

    Examples
    --------
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.pipeline import make_recommender_pipeline
    >>> from sklearn_recft.preprocessing import Pseudonymizer, SecretKey
    >>> names = Pseudonymizer(SecretKey(b"sixteen bytes or more"))
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "rice"]]
    >>> pipe = make_recommender_pipeline(names, PopularityRecommender()).fit(X)
    >>> pipe.recommend(["ann"], n_recommendations=1)[0].tolist()
    [['rice']]
    >>> vault = names.vault(["ann", "bob"])
    >>> [vault[pseudonym] for pseudonym in pipe.user_ids_]
    ['ann', 'bob']
    """

    _parameter_constraints: ClassVar[dict] = {
        "key": [str, SecretKey],
        "columns": [list, tuple],
        "kind": [StrOptions({"hex", "int64"})],
    }

    def __init__(
        self, key: str | SecretKey, *, columns: Sequence[str] = (USER,), kind: str = "hex"
    ) -> None:
        self.key = key
        self.columns = columns
        self.kind = kind

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Pseudonymizer:
        """Check the key and the columns; nothing is learned.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : ignored

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the environment has no such key, it is too short, or a column is missing or invalid.
        """
        key = SecretKey.of(self.key)
        columns = self._checked_columns()
        rows, table = read_rows(self, X, reset=True)
        for name in columns:
            _messages(rows.cells(name, "columns")[0], name)
        set_names(self, table)
        self._columns, self._kind = columns, self.kind
        self.key_check_ = _check_of(key)
        return self

    def transform(self, X: Any) -> Any:
        """Replace the ids of the columns.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        X : frame of the library given, or ndarray of shape (n, n_columns) of objects
        """
        check_is_fitted(self)
        key = self._same_key()
        rows, table = read_rows(self, X, reset=False)
        new = {
            name: _pseudonyms(rows.cells(name, "columns")[0], name, key, self._kind)
            for name in self._columns
        }
        return replaced(table, new)

    def pseudonyms(self, ids: Any, column: str = USER) -> np.ndarray:
        """Return the pseudonyms of ids, shape (n,). It needs no `fit`.

        Parameters
        ----------
        ids : array-like of ids of shape (n,)
        column : {"user_id", "item_id"}, default="user_id"
        """
        return self._of_ids(check_ids(ids, "ids"), column, self.key)

    def vault(self, ids: Any, column: str = USER) -> dict[Any, Any]:
        """Return the id of each pseudonym, for you to store at a safe place: a dict.

        Parameters
        ----------
        ids : array-like of ids of shape (n,)
        column : {"user_id", "item_id"}, default="user_id"
        """
        values = check_ids(ids, "ids")
        return dict(zip(self.pseudonyms(values, column).tolist(), values.tolist(), strict=True))

    def rotation(self, ids: Any, old_key: str | SecretKey, column: str = USER) -> dict[Any, Any]:
        """Return the new pseudonym of each old one: a dict to rewrite a log with after a new key.

        Pseudonyms cannot be undone, so this needs the ids. Rewrite the log, and fit again.

        Parameters
        ----------
        ids : array-like of ids of shape (n,)
        old_key : str or SecretKey
        column : {"user_id", "item_id"}, default="user_id"
        """
        values = check_ids(ids, "ids")
        old = self._of_ids(values, column, old_key)
        return dict(zip(old.tolist(), self.pseudonyms(values, column).tolist(), strict=True))

    def _checked_columns(self) -> tuple[str, ...]:
        names = tuple(self.columns)
        if (
            not names
            or not all(name in (USER, ITEM) for name in names)
            or len(set(names)) < len(names)
        ):
            raise ValueError(f"columns must name {USER!r}, {ITEM!r} or both; got {self.columns!r}.")
        return names

    def _same_key(self) -> SecretKey:
        key = SecretKey.of(self.key)
        if _check_of(key) != self.key_check_:
            raise ValueError(
                "key: this is another key than in fit, so known users would become unknown. Set "
                "the key back, or use rotation and fit again."
            )
        return key

    def _of_ids(self, ids: np.ndarray, column: str, key: str | SecretKey) -> np.ndarray:
        if column not in (USER, ITEM):
            raise ValueError(f"column must be {USER!r} or {ITEM!r}; got {column!r}.")
        return _pseudonyms(ids, column, SecretKey.of(key), self.kind)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []  # strings out
        return tags


def _pseudonyms(ids: np.ndarray, column: str, key: SecretKey, kind: str) -> np.ndarray:
    digests = [key.digest(message) for message in _messages(ids, column)]
    if kind == "hex":
        texts = [digest[:16].hex() for digest in digests]
        return np.fromiter(texts, object, len(texts))
    numbers = [int.from_bytes(digest[:8], "big") >> 1 for digest in digests]
    return np.array(numbers, np.int64)


def _check_of(key: SecretKey) -> str:
    return key.digest(b"key check").hex()[:8]


def _messages(ids: np.ndarray, column: str) -> Iterable[bytes]:
    """Return what is hashed of each id: the column, and the id with its type."""
    values, head = ids.tolist(), column.encode() + b"\0"
    try:
        return [head + _encoded(value) for value in values]
    except TypeError:
        wrong = [value for value in values if not _is_plain(value)]
        raise TypeError(
            f"{column}: {len(wrong)} of {len(values)} rows hold ids of type "
            f"{type(wrong[0]).__name__}; convert them to strings or integers."
        ) from None


def _is_plain(value: Any) -> bool:
    try:
        _encoded(value)
    except TypeError:
        return False
    return True


def _encoded(value: Any) -> bytes:
    if isinstance(value, np.generic):  # which is equal to a number of Python, and written otherwise
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return b"i%d" % value
    if isinstance(value, float):
        return b"f" + repr(value).encode()
    if isinstance(value, str):
        return b"s" + value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return b"b" + value
    if isinstance(value, tuple):
        parts = [_encoded(part) for part in value]
        return b"t" + b"".join(b"%d:%s" % (len(part), part) for part in parts)
    raise TypeError(type(value).__name__)
