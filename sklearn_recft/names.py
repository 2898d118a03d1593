"""Names of the columns of a frame: the role of each, and the line of code that renames them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

USER, ITEM, TIME, TEXT, QUERY = "user_id", "item_id", "timestamp", "text", "query"
ROLES = (USER, ITEM, TIME, TEXT, QUERY)
# Vectors of items; only estimators that say so read them. Others may take the name for a feature.
EMBEDDING = "embedding"
EXPECTED = f"expected {USER} and {ITEM}, and {TIME} where known"

# Names that tools give to the columns of a table without names: 0, 1, 2 or column_0, column_1.
_NUMBERED = re.compile(r"(|x|f|v|c|_|col_?|column_?|feature_?)(\d+)", re.IGNORECASE)
# What users, items and times are often called, without a final "id" and the like.
_CALLED = {
    USER: {
        "u", "user", "customer", "client", "member", "visitor", "account", "household", "reader",
        "person",
    },
    ITEM: {
        "i", "item", "movie", "film", "product", "sku", "article", "book", "song", "track",
        "artist", "video", "asin", "isbn", "game", "listing", "hotel",
    },
    TIME: {"t", "ts", "time", "date", "datetime", "day", "when", "createdat"},
}  # fmt: skip
_TIME_LAST = re.compile(r".*([_\W](time|timestamp|date)|[a-z](Time|Timestamp|Date))", re.ASCII)


def as_roles(names: Iterable[Any]) -> list[str]:
    """Names of columns, with roles in place of prefixed ones: ``remainder__user_id``.

    The prefixes are those of scikit-learn's `ColumnTransformer` and `FeatureUnion`. A column that
    is called ``user_id`` itself comes first.

    Raises
    ------
    ValueError
        Two columns end in the same role.

    Examples
    --------
    >>> from sklearn_recft.names import as_roles
    >>> as_roles(["encoder__hour_3", "remainder__user_id", "remainder__item_id"])
    ['encoder__hour_3', 'user_id', 'item_id']
    """
    names = [str(name) for name in names]
    for role in ROLES:
        if role in names:
            continue
        ending = f"__{role}"
        found = [name for name in names if name.endswith(ending)]
        if len(found) > 1:
            raise ValueError(
                f"X has {len(found)} columns that end in __{role}: {found}. Rename the one that "
                f"is the {role}, for example by X = X.rename(columns={{{found[0]!r}: {role!r}}}), "
                "and drop the others."
            )
        if found:
            names[names.index(found[0])] = role
    return names


def are_numbered(names: Iterable[Any]) -> bool:
    """Whether columns are merely numbered, from 0 or 1: 0, 1, 2 or column_0, column_1."""
    parts = [_NUMBERED.fullmatch(str(name)) for name in names]
    if len({part[1] if part else None for part in parts}) > 1 or None in parts:
        return False
    numbers = [int(part[2]) for part in parts if part]
    return any(numbers == list(range(first, first + len(numbers))) for first in (0, 1))


def guess_roles(names: Iterable[Any], needed: Sequence[str]) -> dict[str, str]:
    """Return the column that is probably meant for each needed role, by what it is called.

    Examples
    --------
    >>> from sklearn_recft.names import guess_roles
    >>> guess_roles(["uid", "movieId", "rating"], ["user_id", "item_id"])
    {'user_id': 'uid', 'item_id': 'movieId'}
    """
    found: dict[str, str] = {}
    for name in map(str, names):
        role = _probable_role(name)
        if role and role in needed and role not in found:
            found[role] = name
    return found


def is_called_time(name: str) -> bool:
    """Whether a column has a name that times often have, such as ``ts`` or ``event_time``."""
    return _probable_role(name) == TIME


def _probable_role(name: str) -> str | None:
    name = name.rpartition("__")[2]
    letters = re.sub(r"[^a-z]", "", name.lower())
    stem = re.sub(r"(id|key|code|number|name)$", "", letters)
    for role, words in _CALLED.items():
        if letters in words or stem in words:
            return role
    return TIME if _TIME_LAST.fullmatch(name) else None


def no_such_columns(X: Any, names: Iterable[Any], needed: Sequence[str]) -> ValueError:
    """Return the error of a frame without the needed columns, with the line that renames them."""
    names, roles = [str(name) for name in names], as_roles(names)
    missing = [role for role in needed if role not in roles]
    index = getattr(getattr(X, "index", None), "names", None) or ()
    if set(missing) & set(index):
        fix = "The index is no column: use X.reset_index()."
    else:
        fix = f"Rename the columns, for example by {_rename(X, names, missing, TIME in roles)}."
        if not any(map(_probable_role, names)):
            fix += (
                " A transformer before a recommender must pass them on: set passthrough=True, or "
                "remainder='passthrough' of a ColumnTransformer."
            )
    return ValueError(
        f"X has no column {' and no column '.join(missing)}: found {names}, {EXPECTED}. {fix}"
    )


def _rename(X: Any, names: list[str], missing: list[str], timed: bool) -> str:
    found = guess_roles(names, missing if timed else [*missing, TIME])
    pairs = {found.get(role, f"<{role.removesuffix('_id')} column>"): role for role in missing}
    if TIME in found and TIME not in missing:
        pairs[found[TIME]] = TIME
    library = type(X).__module__.partition(".")[0]
    if library == "polars":
        return f"X = X.rename({pairs})"
    if library == "pyarrow":
        # Releases of pyarrow before 17 take a list of all names, and no dict.
        return f"X = X.rename_columns([{pairs}.get(name, name) for name in X.column_names])"
    return f"X = X.rename(columns={pairs})"
