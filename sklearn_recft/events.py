"""Events as frozen columns: `Interactions` with ids, and `Events` with codes in their place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from sklearn_recft.features import FeatureColumn, FeatureTable
from sklearn_recft.names import EMBEDDING, ITEM
from sklearn_recft.vocabulary import Vocabulary

Rows = TypeVar("Rows", bound="Interactions")


@dataclass(frozen=True)
class ItemVectors:
    """Vectors of distinct items, such as embeddings of images.

    Attributes
    ----------
    ids : ndarray of shape (n,)
    vectors : ndarray of shape (n, width), float32
        Finite.
    """

    ids: np.ndarray
    vectors: np.ndarray

    @classmethod
    def of(
        cls, ids: np.ndarray, column: FeatureColumn | None, title: str = ""
    ) -> ItemVectors | None:
        """Return the vectors of rows; None if none has any.

        Raises
        ------
        ValueError
            If rows of one item have different vectors.
        """
        if column is None or column.kind != "vector":
            return None
        table = FeatureTable.of_rows(ids, {EMBEDDING: column}, ITEM, title)
        found = table.columns[EMBEDDING]
        known = ~found.is_missing
        return cls(table.ids[known], found.levels[found.data[known]])

    def joined(self, other: ItemVectors) -> ItemVectors:
        """Return the vectors of the items of both.

        Raises
        ------
        ValueError
            If an item has different vectors, or the widths differ.
        """
        width, its = self.vectors.shape[1], other.vectors.shape[1]
        if width != its:
            raise ValueError(
                f"items, {EMBEDDING}: all {len(other.ids)} vectors are of width {its}, and those "
                f"in X of width {width}. Give vectors of one width."
            )
        vocabulary = Vocabulary(self.ids)
        codes = vocabulary.encode(other.ids)
        known = codes >= 0
        refuse_changed(
            (self.vectors[codes[known]] != other.vectors[known]).any(axis=1),
            f"items, {EMBEDDING}",
            "in X",
        )
        ids = np.concatenate([self.ids, other.ids[~known]])
        return ItemVectors(ids, np.concatenate([self.vectors, other.vectors[~known]]))


def refuse_changed(changed: np.ndarray, name: str, where: str) -> None:
    """Raise if an item has another vector than the one it had.

    Parameters
    ----------
    changed : ndarray of shape (n,), bool
    name : str
        Name of the column.
    where : str
        Where the other vector is.
    """
    if changed.any():
        raise ValueError(
            f"{name}: {int(changed.sum())} items have another vector than {where}, and an item "
            "keeps its vector. Give the same one, or None; to change vectors, call fit on all "
            "events."
        )


@dataclass(frozen=True)
class Catalogue:
    """Items that are given beside events.

    Attributes
    ----------
    ids : ndarray of shape (n,)
    texts : ndarray of shape (n,), object, or None
    vectors : ItemVectors or None
    """

    ids: np.ndarray
    texts: np.ndarray | None = None
    vectors: ItemVectors | None = None


@dataclass(frozen=True)
class Interactions:
    """Checked events, or queries where ``item_ids`` is None; n rows, in the order given.

    Attributes
    ----------
    user_ids, item_ids : ndarray of shape (n,)
        Raw ids: int64 where all are whole numbers, else strings or objects.
    feedback : ndarray of shape (n,), float64, or None
        The target ``y``; None where every row is a positive.
    timestamps : ndarray of shape (n,), float64, or None
        Seconds since 1970.
    text : ndarray of shape (n,), object, or None
    context : ndarray of shape (n, n_context), float64
    context_names : tuple of str
    sample_weight : ndarray of shape (n,), float64, or None
    outcome : ndarray of shape (n,), float64, or None
        What else came of the event, known only after it: never context.
    by_position : bool
        Whether these are queries without column names: their context is in the order of fit.
    features : dict of str to FeatureColumn of length n
        Columns that are features of the user or the item of each row: never context.
    tables : dict of str to FeatureTable
        Features by id of users (``"user_id"``) and items (``"item_id"``), to be remembered.
    absent : tuple of str
        Columns of ids that the table lacks, where an estimator allows it; these ids are all 0.
    query : ndarray of shape (n,), object, or None
        Search words of each request, empty in a row without any; None where no row has any.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray | None
    feedback: np.ndarray | None
    timestamps: np.ndarray | None
    text: np.ndarray | None
    context: np.ndarray
    context_names: tuple[str, ...]
    sample_weight: np.ndarray | None = None
    outcome: np.ndarray | None = None
    by_position: bool = False
    features: dict[str, FeatureColumn] = field(default_factory=dict)
    tables: dict[str, FeatureTable] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    query: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    def take(self: Rows, rows: np.ndarray) -> Rows:
        """Return the same columns at ``rows`` (integer indices or a boolean mask)."""

        def at(column: np.ndarray | None) -> Any:
            return None if column is None else column[rows]

        return replace(
            self,
            user_ids=at(self.user_ids),
            item_ids=at(self.item_ids),
            feedback=at(self.feedback),
            timestamps=at(self.timestamps),
            text=at(self.text),
            context=self.context[rows],
            sample_weight=at(self.sample_weight),
            outcome=at(self.outcome),
            features={name: column.take(rows) for name, column in self.features.items()},
            query=at(self.query),
        )

    @staticmethod
    def none(positives_only: bool, context_names: tuple[str, ...], timed: bool) -> Interactions:
        """Return no rows, with these columns."""
        column, context = np.empty(0), np.empty((0, len(context_names)))
        feedback, times = None if positives_only else column, column if timed else None
        return Interactions(column, column, feedback, times, None, context, context_names)

    def context_as(self, names: tuple[str, ...]) -> np.ndarray | None:
        """Context of queries in the columns ``names`` of fit, (n, c); None where none is given."""
        if not names or not self.context_names:
            return None
        if self.by_position and len(self.context_names) == len(names):
            return self.context
        absent = [name for name in names if name not in self.context_names]
        unknown = [name for name in self.context_names if name not in names]
        if absent or unknown:
            raise ValueError(
                f"The context columns of the queries, {list(self.context_names)}, are not those "
                f"of fit: {list(names)}. Missing: {absent}; unknown: {unknown}. Give the columns "
                "of fit."
            )
        return self.context[:, [self.context_names.index(name) for name in names]]

    def learned(self) -> Interactions:
        """Return the rows of positive weight: the others are as if absent from training."""
        weight = self.sample_weight
        return self if weight is None or weight.all() else self.take(weight > 0)


@dataclass(frozen=True)
class Events:
    """Events as a fitted model reads them: `Interactions` with codes in place of ids.

    Also the type of a log: what is remembered of users, in whatever order a function says.

    Attributes
    ----------
    user, item : ndarray of shape (n,), int
        Codes; -1 is an unknown id.
    time : ndarray of shape (n,), float64
        Seconds.
    feedback : ndarray of shape (n,)
        1 for every event where none was given.
    weight : ndarray of shape (n,)
        Sample weights, 1 where none were given.
    context : ndarray of shape (n, n_context)
        Numeric context of the request.
    text : tuple of str of length n, or None
        Text of each item, the id where it has none; None where nothing reads texts.
    outcome : ndarray of shape (n,), or None
        Auxiliary feedback, known only after the event.
    features : dict of str to FeatureColumn of length n
        Features of the user or the item of each row.
    query : tuple of str of length n, or None
        Search words of each request, empty in a row without any; None where no row has any.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    feedback: np.ndarray
    weight: np.ndarray
    context: np.ndarray
    text: tuple[str, ...] | None = None
    outcome: np.ndarray | None = None
    features: dict[str, FeatureColumn] = field(default_factory=dict)
    query: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray | slice) -> Events:
        """Return the same columns at ``rows``, without texts, queries and features."""
        outcome = None if self.outcome is None else self.outcome[rows]
        return Events(
            self.user[rows],
            self.item[rows],
            self.time[rows],
            self.feedback[rows],
            self.weight[rows],
            self.context[rows],
            outcome=outcome,
        )

    def take_items(self, rows: np.ndarray) -> Events:
        """Return the same columns at ``rows``, with texts and features, without queries."""
        features = {name: column.take(rows) for name, column in self.features.items()}
        text = None if self.text is None else tuple(np.array(self.text, object)[rows])
        return replace(self.take(rows), text=text, features=features)

    def joined(self, later: Events) -> Events:
        """Return the events of both, these first, without texts, queries, outcomes and features."""
        return Events(
            np.concatenate([self.user, later.user]),
            np.concatenate([self.item, later.item]),
            np.concatenate([self.time, later.time]),
            np.concatenate([self.feedback, later.feedback]),
            np.concatenate([self.weight, later.weight]),
            np.concatenate([self.context, later.context]),
        )
