"""The one door for data: any table of events in, a frozen set of checked plain arrays out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.utils.validation import validate_data

from sklearn_recft.columns import (
    is_absent,
    plain,
    refuse_beyond_float32,
    summable,
    to_feedback,
    to_ids,
    to_numbers,
    to_texts,
    to_weights,
    warn_of_missing_texts,
)
from sklearn_recft.events import Catalogue, Interactions, ItemVectors
from sklearn_recft.features import FeatureColumn, to_feature
from sklearn_recft.names import (
    EMBEDDING,
    ITEM,
    QUERY,
    ROLES,
    TEXT,
    TIME,
    USER,
    are_numbered,
    as_roles,
)
from sklearn_recft.suspects import refuse_leaked_label, refuse_times_as_context
from sklearn_recft.tables import (
    EventRow,
    Table,
    columns_of,
    is_frame,
    refuse_events,
    table_of_queries,
)
from sklearn_recft.times import to_seconds
from sklearn_recft.vectors import check_vectors
from sklearn_recft.vocabulary import warn_of_other_types


def check_interactions(
    X: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    ignored: str | None = None,
    features: Collection[str] = (),
) -> Interactions:
    """Check a table of events and its feedback; raise before anything is changed.

    Parameters
    ----------
    X : data frame or array-like of shape (n, n_columns)
        A frame with columns ``user_id`` and ``item_id`` (and, optionally, ``timestamp``,
        ``text``, ``query`` and numeric context columns), or a table read by position: user, item,
        timestamp, context columns. A prefix of scikit-learn, as in ``remainder__user_id``, may
        stand before these names.
    y : array-like of shape (n,), default=None
        Finite feedback.
    sample_weight : array-like of shape (n,), default=None
        Weights, at least 0 and not all 0. Rows of weight 0 are kept: see `Interactions.learned`.
    ignored : str, default=None
        A column of a frame that is not read.
    features : collection of str, default=()
        Columns of a frame that are features of users or items; those that are absent are ignored.
        In a dict of names to kinds, a column of the kind "vector" must hold vectors.

    Returns
    -------
    Interactions

    Raises
    ------
    ValueError
        Missing ids, NaN or infinite numbers, negative weights, too few columns, no rows,
        lengths that differ; the message names the column, how many rows and the mend.
    TypeError
        Sparse or unhashable input.

    Examples
    --------
    >>> from sklearn_recft.interactions import check_interactions
    >>> rows = check_interactions([["ann", "tea", 60], ["bob", "rice", 90]], [5, 3])
    >>> rows.item_ids.tolist(), rows.timestamps.tolist()
    (['tea', 'rice'], [60.0, 90.0])
    """
    return _check_table(Table.of(X), y, sample_weight, ignored, features)


def _check_table(
    table: Table, y: Any, sample_weight: Any, ignored: str | None, features: Collection[str],
    absent: tuple[str, ...] = (),
) -> Interactions:  # fmt: skip
    columns = table.columns(tuple(role for role in (USER, ITEM, TIME) if role not in absent))
    columns |= dict.fromkeys(absent, np.zeros(table.values.shape[0], np.int64))
    columns.pop(ignored or "", None)
    events = replace(_checked(columns, y, features=features), absent=absent)
    if sample_weight is None:
        return events
    weight = to_weights(sample_weight, len(events))
    if events.feedback is not None:
        summable(weight * events.feedback, "sample_weight times y")
    object.__setattr__(events, "sample_weight", weight)
    return events


def check_queries(
    X: Any, estimator: Any = None, *, outcome: str | None = None, features: Collection[str] = ()
) -> Interactions:
    """Check who asks, when and in what context: user ids (1-d) or a table of queries.

    A frame has a column ``user_id``; ``timestamp``, ``query`` (search words) and context columns
    are optional. An array is read by position: user, timestamp, context columns. A table of events,
    with the item in its second column, is refused where it can be told: given a fitted
    ``estimator``, by the number of columns, else where the third column holds times and the second
    does not.
    The ``estimator`` also warns of ids of another type than those it knows. The column
    ``outcome`` of a frame is ignored; a table without names does not have it, nor ``features``.

    Examples
    --------
    >>> from sklearn_recft.interactions import check_queries
    >>> check_queries(["ann", "bob"]).user_ids.tolist()
    ['ann', 'bob']
    """
    table = table_of_queries(X)
    if table is None:
        ids = check_ids(X, USER, "recommend needs a list of user ids or a table")
        _refuse_no_rows(ids)
        queries = Interactions(ids, None, None, None, None, np.empty((len(ids), 0)), ())
    elif table.is_named((USER,)):
        columns = table.columns((USER, TIME))
        columns.pop(outcome or "", None)
        queries = _checked(columns, None, of_queries=True, features=features)
    else:
        columns = table.columns((USER, TIME))
        refuse_events(columns, estimator, (outcome, *features))
        queries = replace(_checked(columns, None, of_queries=True), by_position=True)
    if estimator is not None:
        _warn_of_types(estimator, queries)
    return queries


def check_ids(ids: Any, name: str, needs: str = "a list of ids is needed") -> np.ndarray:
    """Check ids (1-d) in any container: list, array, series, set, generator, keys of a dict.

    Examples
    --------
    >>> from sklearn_recft.interactions import check_ids
    >>> check_ids({"tea": 1, "rice": 2}.keys(), "candidates").tolist()
    ['tea', 'rice']
    """
    if is_frame(ids):
        column = nw.from_native(ids, eager_only=True, allow_series=True)
        if not isinstance(column, nw.Series):
            raise ValueError(f"{name}: {needs}, got a data frame; pass one of its columns.")
        return to_ids(column, name)
    if isinstance(ids, (str, bytes)) or not (isinstance(ids, Iterable) or np.ndim(ids)):
        raise ValueError(f"{needs}; use [{ids!r}].")
    if isinstance(ids, np.ndarray) and not ids.ndim:
        raise ValueError(f"{name}: {needs}, got a 0-dimensional array; use [{ids.item()!r}].")
    if isinstance(ids, np.ndarray) or hasattr(ids, "__array__"):
        return to_ids(plain(ids), name)
    listed = list(ids)
    values = np.empty(len(listed), object)
    values[:] = listed
    return to_ids(values, name)


def _warn_of_types(estimator: Any, events: Interactions) -> None:
    known = {USER: getattr(estimator, "user_ids_", None)}
    given = {USER: events.user_ids}
    if events.absent:
        return
    if events.item_ids is not None:
        known[ITEM], given[ITEM] = getattr(estimator, "item_ids_", None), events.item_ids
    warn_of_other_types(known, given, stacklevel=4)


def check_events(
    estimator: Any, X: Any, y: Any = None, *, sample_weight: Any = None, reset: bool,
    timed: str | None = None, outcome: str | None = None, predicting: bool = False,
    features: Collection[str] = (), optional: Sequence[str] = (),
) -> Interactions:  # fmt: skip
    """`check_interactions`, and set (``reset``) or check the columns an estimator knows.

    ``n_features_in_`` and ``feature_names_in_`` are set last, once all else is sound. Named
    columns may come in any order. ``timestamp``, ``text`` and ``query`` may be left out later on;
    the context columns must be those of ``fit``. ``timed`` names a parameter that cannot do
    without timestamps, ``outcome`` a column that is no context and may be left out as well; it is
    not read at all where ``predicting``. ``features`` are columns that are no context either; they
    may be left out, or have other values, later on. ``optional`` are columns of ids that a frame
    may lack.
    Ids of another type than all known ones are warned of, and at ``reset`` ids that are texts
    such as 'nan'.
    """
    table = Table.of(X)
    absent = table.absent(optional)
    named = bool(absent) or table.is_named()
    names = () if reset or named else _check_unnamed(estimator, table, features)
    ignored = outcome if predicting and named else None
    events = _check_table(table, y, sample_weight, ignored, features, absent)
    if names:
        events = replace(events, context_names=names)
    events = _set_aside(events, outcome)
    if timed and events.timestamps is None:
        raise ValueError(
            f"{timed} needs the column `timestamp` (seconds or datetimes); add it to X or set "
            f"{timed} to None."
        )
    if reset:
        for name, ids in ((USER, events.user_ids), (ITEM, events.item_ids)):
            if ids is not None:
                warn_of_missing_texts(ids, name)
        _refuse_suspects(events, named)
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        validate_data(estimator, X, reset=True, skip_check_array=True)
        if named:
            estimator.feature_names_in_ = np.array(list(map(str, table.names or ())), object)
            estimator.n_features_in_ = len(estimator.feature_names_in_)
        return events
    if named:
        by_role = isinstance(X, EventRow)
        events = _in_order_of_fit(estimator, events, (outcome, *features), by_role)
    _warn_of_types(estimator, events)
    return events


def _refuse_suspects(events: Interactions, named: bool) -> None:
    """Refuse context columns that are the label, or times of another name, in learned rows."""
    events = events.learned()
    names, feedback = events.context_names, events.feedback
    if named and events.timestamps is None:
        ids = {USER: events.user_ids, ITEM: np.asarray(events.item_ids)}
        refuse_times_as_context(events.context, names, ids)
    if feedback is not None:
        refuse_leaked_label(events.context, names, feedback, named=named)


def _check_unnamed(estimator: Any, table: Table, features: Collection[str]) -> tuple[str, ...]:
    """Check the columns of what has no roles; return the names of fit for its context."""
    array = isinstance(table.values, np.ndarray)
    values = table.values if array else table.given
    fitted = as_roles(getattr(estimator, "feature_names_in_", ()))
    aside = {TEXT, QUERY, *features}.intersection(fitted)
    if USER in fitted and (fitted[:3] != [USER, ITEM, TIME][: len(fitted)] or aside):
        raise ValueError(
            f"X has no column names, and an array is read as {USER}, {ITEM}, {TIME}, context: "
            f"another order than that of the frame of fit, {fitted}. Pass a frame with these names."
        )
    # What scikit-learn would find is known at once for an array of the right width. One read by
    # position is as welcome as a frame with user_id and item_id, where that has been fitted.
    right = array and values.shape[1] == estimator.n_features_in_
    if not (right and (not fitted or USER in fitted)):
        validate_data(estimator, values, reset=False, skip_check_array=True)
    return tuple(fitted[3:]) if USER in fitted else ()


def check_items(items: Any) -> Catalogue:
    """Check a table of items: ids, and texts (missing ones empty), vectors or both.

    A frame with the column ``item_id``, and ``text`` or ``embedding`` (`check_vectors`), or a table
    of ids and texts. An id given twice keeps its first text.

    Examples
    --------
    >>> from sklearn_recft.interactions import check_items
    >>> check_items([["a", "green tea"], ["b", None]]).texts.tolist()
    ['green tea', '']
    """
    columns = columns_of(items, (ITEM, TEXT))
    if ITEM not in columns or not {TEXT, EMBEDDING} & columns.keys():
        raise ValueError(
            f"items: columns {ITEM} and {TEXT} are needed, or {ITEM} and {EMBEDDING}, found "
            f"{sorted(map(str, columns))}."
        )
    ids, vectors = to_ids(columns[ITEM], ITEM), None
    if EMBEDDING in columns:
        title = f"items, {EMBEDDING}"
        vectors = ItemVectors.of(ids, _vector_feature(columns[EMBEDDING], title), "items")
    return Catalogue(ids, to_texts(columns[TEXT]) if TEXT in columns else None, vectors)


def _set_aside(events: Interactions, outcome: str | None) -> Interactions:
    """Take the column ``outcome`` out of the context, where it is there."""
    if outcome not in events.context_names:
        return events
    names = tuple(name for name in events.context_names if name != outcome)
    kept = [events.context_names.index(name) for name in names]
    column = events.context[:, events.context_names.index(str(outcome))]
    return replace(events, context=events.context[:, kept], context_names=names, outcome=column)


def _in_order_of_fit(
    estimator: Any, events: Interactions, aside: Sequence[str | None], by_role: bool
) -> Interactions:
    names = events.context_names
    fitted = as_roles(getattr(estimator, "feature_names_in_", ()))
    unnamed = not fitted or are_numbered(fitted)
    if unnamed and by_role:  # the arguments of a function, whatever the table of fit
        fitted = (fitted or [f"x{j}" for j in range(estimator.n_features_in_)])[3:]
    elif unnamed:
        given = [USER, ITEM, *([] if events.timestamps is None else [TIME]), *names]
        places = ", ".join(("user", "item", "timestamp", "context")[: estimator.n_features_in_])
        raise ValueError(
            f"This {type(estimator).__name__} was fitted without column names, on a table of "
            f"{estimator.n_features_in_} columns ({places}), and X has the names {given}. Fit it "
            "on a frame, or pass an array: X[[...]].to_numpy() in the order of fit."
        )
    known = [name for name in fitted if name not in (*ROLES, *aside)]
    if set(known) != set(names):
        absent, new = sorted(set(known) - set(names)), sorted(set(names) - set(known))
        faults = [
            f"{what}: {names}" for what, names in (("missing", absent), ("unknown", new)) if names
        ]
        raise ValueError(
            "The feature names should match those that were passed during fit. "
            f"Context columns {'; '.join(faults)}. Give the columns of fit."
        )
    if tuple(known) == names:
        return events
    columns = [names.index(name) for name in known]
    return replace(events, context=events.context[:, columns], context_names=tuple(known))


def timestamps_of(X: Any) -> np.ndarray:
    """Seconds since 1970 of each row of ``X``, shape (n,), float64."""
    times = times_or_none(X)
    if times is None:
        raise ValueError(
            "X has no `timestamp`: give a column of that name, or a third column of seconds "
            "since 1970, to order events in time."
        )
    return times


def times_or_none(X: Any) -> np.ndarray | None:
    """Seconds since 1970 of each row, or None where the table has no timestamps."""
    columns = columns_of(X, (USER, ITEM, TIME))
    return to_seconds(columns[TIME], TIME) if TIME in columns else None


def users_of(X: Any) -> np.ndarray:
    """User id of each row of ``X``, shape (n,)."""
    return to_ids(columns_of(X, (USER, ITEM, TIME))[USER], USER)


def items_of(X: Any) -> np.ndarray:
    """Item id of each row of ``X``, shape (n,)."""
    return to_ids(columns_of(X, (USER, ITEM, TIME))[ITEM], ITEM)


def check_log(X: Any) -> Interactions:
    """Check the ids and times of a table of events; other columns are not read."""
    columns = columns_of(X, (USER, ITEM, TIME))
    return _checked({name: columns[name] for name in (USER, ITEM, TIME) if name in columns}, None)


# ---------------------------------------------------------------------- private


def _refuse_no_rows(users: np.ndarray) -> None:
    if len(users) == 0:
        raise ValueError("X is empty: at least one row is required.")


def _checked(
    columns: dict[str, Any], y: Any, *, of_queries: bool = False, features: Collection[str] = ()
) -> Interactions:
    kinds = features if isinstance(features, Mapping) else {}
    vectors = {name for name, kind in kinds.items() if kind == "vector"}
    side = {name: columns.pop(name) for name in features if name in columns}
    users = to_ids(columns[USER], USER)
    items = None if of_queries else to_ids(columns[ITEM], ITEM)
    _refuse_no_rows(users)
    names = tuple(c for c in columns if c not in ROLES)
    context = np.empty((len(users), len(names)))
    for j, name in enumerate(names):
        context[:, j] = to_numbers(columns[name], name)
        refuse_beyond_float32(context[:, j], name)
    return Interactions(
        users,
        items,
        None if y is None else to_feedback(y, len(users)),
        to_seconds(columns[TIME], TIME) if TIME in columns else None,
        to_texts(columns[TEXT]) if TEXT in columns else None,
        context,
        names,
        features={
            name: _vector_feature(column, name) if name in vectors else to_feature(column, name)
            for name, column in side.items()
        },
        query=_search_words(columns[QUERY], QUERY) if QUERY in columns else None,
    )


def _search_words(column: Any, name: str) -> np.ndarray | None:
    """Search words as strings; missing or blank ones are empty. None if there are no words."""
    values = plain(column)
    if values.dtype.kind in "iufbcMm" and not all(map(is_absent, values.tolist())):
        raise ValueError(
            f"{name}: this column is for search words, and all {len(values)} rows are no texts; "
            "rename the column if it is context of another kind."
        )
    words = to_texts(values, name)
    wrong = [word for word in words.tolist() if not isinstance(word, str)]
    if wrong:
        raise ValueError(
            f"{name}: {len(wrong)} of {len(words)} rows are no texts, the first {wrong[0]!r}; give "
            "search words, or None in a row without them."
        )
    words[:] = [word.strip() for word in words.tolist()]
    return words if any(words.tolist()) else None


def _vector_feature(column: Any, name: str) -> FeatureColumn:
    """Check a column that must hold vectors."""
    vectors, places = check_vectors(column, name)
    return FeatureColumn("vector" if len(vectors) else "missing", places, vectors)
