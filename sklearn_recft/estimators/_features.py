"""Features of users and items as a recommender reads them: from tables and from columns of X."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.estimators._new_items import NewItemsMixin
from sklearn_recft.events import Interactions
from sklearn_recft.features import (
    PARAMETERS,
    TABLES,
    FeatureTable,
    check_features,
    feature_names,
    to_feature,
)
from sklearn_recft.models import Call
from sklearn_recft.names import ITEM, ROLES, TEXT, USER
from sklearn_recft.suspects import refuse_leaked_label
from sklearn_recft.vocabulary import warn_of_other_types

if TYPE_CHECKING:  # torch, which the model of crosses needs, takes seconds to import
    from sklearn_recft.models import BayesianMFModel, CrossModel


class FeaturesMixin(NewItemsMixin):
    """Mixin of recommenders with the parameters ``user_features``, ``item_features``, ``backbone``.

    `_check` takes the tables ``users`` and ``items``. A feature of this name is a column of the
    table, or else a column of ``X``. Without names, all columns of the table are features.
    """

    user_features: Any
    item_features: Any
    backbone: str | None
    _fixed: dict[str, Any]
    _model: BayesianMFModel | CrossModel

    @property
    def feature_columns_(self) -> list[str]:
        """Columns of queries that are read as features: those of `fit`, also of its tables."""
        check_is_fitted(self)
        return self._model.feature_columns

    def add_items(self, items: Any) -> Any:
        """Register new items without events by their features; they can be recommended at once.

        Weights and users stay as they are. What the model knows of an item with events stays too.

        Parameters
        ----------
        items : table with the column ``item_id`` and features
            As in `fit`.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If columns are missing or of another kind than in `fit`. Nothing changes.
        """
        check_is_fitted(self)
        reads_text, names = self.backbone is not None, self.item_features
        table = check_features(items, ITEM, names=names, text=reads_text)
        self._register_items(Call(), **{ITEM: table})
        return self

    def _features(self) -> tuple[str, ...]:
        given: tuple[str, ...] = super()._features()  # type: ignore[misc]
        return tuple(dict.fromkeys((*given, *self._model.feature_columns)))

    def _check(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        reset: bool,
        users: Any = None,
        items: Any = None,
        **check: Any,
    ) -> Interactions:
        self._refuse_features()
        rows = super()._check(X, y, sample_weight, reset=reset, **check)  # type: ignore[misc]
        rows = _with_texts(rows, self.backbone)
        if reset:
            _refuse_leaks(rows.learned())
        found = {
            role: self._table(rows, role, table, reset=reset)
            for role, table in ((USER, users), (ITEM, items))
        }
        if reset:
            self._refuse_unknown_features(found)
        tables = {role: table for role, table in found.items() if table is not None}
        return replace(rows, tables=tables) if tables else rows

    def _check_rows(self, X: Any) -> Interactions:
        return _with_texts(super()._check_rows(X), self._fixed.get("backbone"))  # type: ignore[misc]

    def _table(
        self, rows: Interactions, role: str, table: Any, *, reset: bool
    ) -> FeatureTable | None:
        """Return the features of the users or items of learned rows and of their table."""
        if table is None and not rows.features:
            return None
        names, rows = getattr(self, PARAMETERS[role]), rows.learned()
        reads_text = role == ITEM and self.backbone is not None
        ids = rows.user_ids if role == USER else np.asarray(rows.item_ids)
        given = None if table is None else check_features(table, role, names=names, text=reads_text)
        known = () if reset else self._model.side(role).features.columns
        wanted = {*(names or known), *([TEXT] if reads_text else [])}
        if given is not None:
            wanted -= set(given.columns)
            name = f"{TABLES[role]}, {role}"
            warn_of_other_types({name: ids}, {name: given.ids}, stacklevel=6)
        columns = {name: column for name, column in rows.features.items() if name in wanted}
        if not columns:
            return given
        found = FeatureTable.of_rows(ids, columns, role)
        return found if given is None else given.joined(found)

    def _refuse_unknown_features(self, found: dict[str, FeatureTable | None]) -> None:
        """Raise if a feature is neither a column of its table nor of ``X``."""
        for role, table in found.items():
            names = getattr(self, PARAMETERS[role]) or ()
            absent = [name for name in names if table is None or name not in table.columns]
            if absent:
                raise ValueError(
                    f"{PARAMETERS[role]}: {absent} are no columns of X, nor of a table "
                    f"{TABLES[role]}=. Add these columns to one of them (a frame), or leave them "
                    "out."
                )

    def _refuse_features(self) -> None:
        """Raise for names that cannot be those of features."""
        names = feature_names(self)
        wrong = [name for name, count in Counter(names).items() if count > 1 or name in ROLES]
        if wrong:
            raise ValueError(
                f"user_features and item_features: {wrong} are given twice, or name a column of "
                f"another meaning ({', '.join(ROLES)}). A text is read if backbone is set. Give "
                "each column once."
            )


def _refuse_leaks(rows: Interactions) -> None:
    """Raise if a feature of numbers is the label."""
    for name, column in rows.features.items():
        if column.kind == "number" and rows.feedback is not None:
            numbers = np.nan_to_num(column.data)[:, None]
            refuse_leaked_label(numbers, (name,), rows.feedback, named=True)


def _with_texts(rows: Interactions, backbone: str | None) -> Interactions:
    """Return rows with the column ``text`` as a feature, if there is a backbone to read it."""
    if backbone is None or rows.text is None:
        return rows
    return replace(rows, features={**rows.features, TEXT: to_feature(rows.text, TEXT, text=True)})
