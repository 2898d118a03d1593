"""What the regressor and the classifier by a deep & cross network share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from sklearn_recft.base import RecommenderMixin, RecommenderTags, unboxed
from sklearn_recft.estimators._features import FeaturesMixin
from sklearn_recft.estimators._verbs import AdaptMixin
from sklearn_recft.events import Interactions
from sklearn_recft.features import (
    PARAMETERS,
    TABLES,
    FeatureColumn,
    FeatureTable,
    as_categories,
    as_lists,
    feature_names,
    names_of_categories,
)
from sklearn_recft.models import (
    CROSS_DEFAULTS,
    CROSS_OPTIONS,
    OFFSET,
    CrossModel,
    CrossSettings,
)
from sklearn_recft.names import ITEM, ROLES, USER, are_numbered, as_roles, no_such_columns
from sklearn_recft.tables import Table
from sklearn_recft.training import FineTuning, resolve_training


def _has_factors(estimator: Any) -> bool:
    """Raise an attribute error if there is nothing of a user to adapt."""
    if not (estimator.n_factors and estimator.use_ids):
        raise AttributeError(
            "adapt: with n_factors=0 or use_ids=False, the model has no parameters of single users "
            "to adapt. Use partial_fit."
        )
    return True


class CrossMixin(FeaturesMixin, AdaptMixin, RecommenderMixin):
    """Mixin of estimators around a cross network: columns, settings, model."""

    categorical: Any
    lists: Any
    use_ids: bool
    n_factors: int
    embedding_dim: int
    hidden: Any
    id_dropout: float
    replay_size: int
    drift: str | None
    max_epochs: int | None
    module: Any
    training: FineTuning | None
    verbose: int
    net_params: dict[str, Any] | None
    _model: CrossModel
    _categories: tuple[str, ...] = ()

    # A text is no column of this model.
    backbone: str | None = None

    _FIXED: ClassVar[tuple[str, ...]] = (
        "user_features",
        "item_features",
        "categorical",
        "lists",
        "use_ids",
        "n_factors",
        "embedding_dim",
        "hidden",
        "id_dropout",
        "replay_size",
        "training",
        "net_params",
    )
    _parameter_constraints: ClassVar[dict] = {
        "user_features": [list, tuple, None],
        "item_features": [list, tuple, None],
        "categorical": [list, tuple, None],
        "lists": [list, tuple, None],
        "use_ids": ["boolean"],
        "n_factors": [Interval(Integral, 0, None, closed="left")],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "hidden": [list, tuple],
        "id_dropout": [Interval(Real, 0, 0.9, closed="both")],
        "replay_size": [Interval(Integral, 0, None, closed="left")],
        "drift": [StrOptions({"follow"}), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "module": [str, HasMethods("state_dict"), None],
        "training": [FineTuning, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "net_params": [dict, None],
    }

    @available_if(_has_factors)
    def adapt(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Update the statistics and the factors of the users of further rows; nothing else.

        The net and what is known of items stay. New items join the catalogue. Parameters are those
        of `fit`. It exists if ``n_factors`` is above 0 and ``use_ids`` is True.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        return super().adapt(X, y, sample_weight)

    @property
    def module_(self) -> Any:
        """The net's module."""
        return self._fitted("module_").module

    @property
    def net_(self) -> Any:
        """The skorch net around ``module_``."""
        return self._fitted("net_").network.weights.net

    # ------------------------------------------------------------------ columns

    @property
    def _optional_ids(self) -> tuple[str, ...]:
        """Columns of ids that a frame may lack."""
        use_ids = getattr(self, "_fixed", {}).get("use_ids", self.use_ids)
        return () if use_ids else (USER, ITEM)

    def _features_of_fit(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*feature_names(self), *self._categories)))

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
        self._refuse_no_ids(X, {USER: users, ITEM: items}, reset=reset)
        if reset:
            self._refuse_columns()
            given = (*(self.categorical or ()), *(self.lists or ()))
            named = names_of_categories(X)
            self._categories = tuple(dict.fromkeys((*named, *given)))
        rows = super()._check(X, y, sample_weight, reset=reset, users=users, items=items, **check)
        if reset:
            self._refuse_absent(rows)
            self._refuse_nothing(rows)
        return self._with_kinds(rows, reset=reset)

    def _check_rows(self, X: Any) -> Interactions:
        self._check_is_fitted()
        self._refuse_positions(Table.of(X))
        return self._with_kinds(super()._check_rows(X))

    def _check_queries(self, X: Any) -> Interactions:
        self._check_is_fitted()
        if not self.n_items_:
            raise ValueError(
                f"recommend: the model was fitted on rows without {ITEM}, so it knows no items. "
                f"Add the columns {USER} and {ITEM} to X of fit, or rank rows by their prediction."
            )
        return self._with_kinds(super()._check_queries(X))

    def _with_kinds(self, rows: Interactions, *, reset: bool = False) -> Interactions:
        """Return rows with numbers as categories, and strings as lists, where told so."""
        given = vars(self) if reset else self._fixed
        kinds: dict[str, Callable[[FeatureColumn, str], FeatureColumn]] = {}
        kinds |= dict.fromkeys(given["categorical"] or (), as_categories)
        kinds |= dict.fromkeys(given["lists"] or (), as_lists)
        if not kinds:
            return rows

        def converted(columns: Mapping[str, FeatureColumn]) -> dict[str, FeatureColumn]:
            return {n: kinds[n](c, n) if n in kinds else c for n, c in columns.items()}

        tables = {
            role: FeatureTable(table.ids, converted(table.columns))
            for role, table in rows.tables.items()
        }
        return replace(rows, features=converted(rows.features), tables=tables)

    def _refuse_columns(self) -> None:
        """Raise for names that cannot be those of categories or lists."""
        for parameter in ("categorical", "lists"):
            names = list(getattr(self, parameter) or ())
            wrong = [n for n in names if not isinstance(n, str) or n in ROLES]
            if wrong:
                raise ValueError(
                    f"{parameter}: {wrong} are no names of columns, or name a column of another "
                    f"meaning ({', '.join(ROLES)}). Leave them out."
                )
        both = sorted(set(self.categorical or ()) & set(self.lists or ()))
        if both:
            raise ValueError(f"categorical and lists: {both} are in both. Name each column once.")

    def _refuse_no_ids(self, X: Any, tables: Mapping[str, Any], *, reset: bool) -> None:
        """Raise if a frame lacks ids that are needed, or an array is read where fit had no ids."""
        table = Table.of(X)
        absent = table.absent((USER, ITEM))
        if absent and not self._optional_ids:
            error = no_such_columns(X, table.names or (), absent)
            raise ValueError(
                f"{error} Or set use_ids=False, to learn from the other columns alone."
            )
        for role in absent:
            stored = getattr(self, PARAMETERS[role]) if reset else self._model.columns.names(role)
            if stored or tables[role] is not None:
                raise ValueError(
                    f"{TABLES[role]}: X has no column {role}, by which features are stored and "
                    f"found. Add the column, or fit without {TABLES[role]} and {PARAMETERS[role]}: "
                    "the other columns of X are read in any case."
                )
        if not reset:
            self._refuse_positions(table)

    def _refuse_positions(self, table: Table) -> None:
        """Raise for an array, whose first columns would be ids, if fit had names and no ids."""
        fitted = as_roles(getattr(self, "feature_names_in_", ()))
        named = bool(fitted) and not are_numbered(fitted)
        if table.names is None and named and not {USER, ITEM} <= set(fitted):
            raise ValueError(
                f"X has no column names, and fit had a frame without ids: {fitted}. Pass a frame "
                "with these names."
            )

    def _refuse_nothing(self, rows: Interactions) -> None:
        """Raise if there is nothing to learn from."""
        tables = [name for table in rows.tables.values() for name in table.columns]
        if not (self.use_ids or {*rows.context_names, *rows.features} - {OFFSET} or tables):
            raise ValueError(
                f"use_ids=False: X has no columns to learn from beside ids and times (all "
                f"{len(rows)} rows). Add columns, or set use_ids=True."
            )

    def _refuse_absent(self, rows: Interactions) -> None:
        """Raise for categories and lists that no table of the first call has."""
        tables = [table.columns for table in rows.tables.values()]
        found = list(dict.fromkeys(chain(rows.context_names or (), rows.features, *tables)))
        for parameter in ("categorical", "lists"):
            absent = [name for name in getattr(self, parameter) or () if name not in found]
            if absent:
                raise ValueError(
                    f"{parameter}: X has no columns {absent}, nor have users and items; found "
                    f"{found}. Add the columns, or leave them out of {parameter}."
                )

    # ------------------------------------------------------------------ settings

    def _cross_settings(self, loss: str) -> CrossSettings:
        policy = resolve_training(
            self.training,
            self.net_params,
            defaults=CROSS_DEFAULTS,
            supported=CROSS_OPTIONS,
            parameters=self._get_param_names,  # type: ignore[attr-defined]
        )
        wrong = [n for n in self.hidden if not isinstance(n, Integral) or n < 1]
        if wrong:
            raise ValueError(
                f"hidden={self.hidden!r}: it must be a sequence of widths, int >= 1, or () for "
                "cross layers alone."
            )
        settings = CrossSettings(
            loss=loss,
            use_ids=bool(self.use_ids),
            n_factors=self.n_factors,
            embedding_dim=self.embedding_dim,
            hidden=tuple(map(int, self.hidden)),
            id_dropout=float(self.id_dropout),
            replay_size=self.replay_size,
            drift=self.drift,
            max_epochs=self.max_epochs,
            policy=policy,
            net_params=unboxed(dict(self.net_params or {})),
            n_threads=self._n_threads(),
            verbose=self.verbose,
        )
        found: CrossSettings = unboxed(settings)
        return found

    def _make_model(self, rows: Interactions) -> CrossModel:
        model = CrossModel(rows, replace(self._settings(), seed=self._seed()))
        model.network.pretrained = self.module
        return model

    def __recommender_tags__(self) -> RecommenderTags:
        tags = super().__recommender_tags__()
        adapts = self.n_factors and self.use_ids
        return tags if adapts else replace(tags, adapts="")


def labels_within(feedback: np.ndarray | None, loss: str) -> None:
    """Raise if a loss cannot learn feedback."""
    if feedback is None or loss == "squared_error":
        return
    wrong = feedback < 0 if loss == "poisson" else (feedback < 0) | (feedback > 1)
    if wrong.any():
        limits = "below 0" if loss == "poisson" else "outside 0 to 1"
        raise ValueError(
            f"y: {int(wrong.sum())} of {len(feedback)} rows lie {limits}, which loss={loss!r} "
            "cannot learn. Use loss='squared_error', or change y."
        )
