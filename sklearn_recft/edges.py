"""Edges of a knowledge graph: the entities (genres, directors, brands) that items are linked to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft.columns import to_ids
from sklearn_recft.names import ITEM
from sklearn_recft.tables import Table
from sklearn_recft.vocabulary import Vocabulary

_COLUMNS = (ITEM, "relation", "entity")


@dataclass(frozen=True, eq=False)
class Edges:
    """Distinct edges of items and entities.

    Attributes
    ----------
    item_ids : ndarray of shape (n,)
    entity : ndarray of shape (n,), int64
        Codes of entities. A name in two relations is two entities.
    names : tuple of (str, str)
        Relation and name of each entity, relation by relation.
    starts : ndarray of shape (n_relations + 1,), int64
        Entities of relation r are ``starts[r] .. starts[r + 1] - 1``.
    """

    item_ids: np.ndarray
    entity: np.ndarray
    names: tuple[tuple[str, str], ...]
    starts: np.ndarray

    @property
    def relations(self) -> tuple[str, ...]:
        """Names of the relations, in order of first appearance."""
        return tuple(self.names[first][0] for first in self.starts[:-1].tolist())


def check_edges(table: Any) -> Edges:
    """Check a table of edges; an edge that is listed twice counts once.

    Parameters
    ----------
    table : data frame, or array-like of shape (n, 3)
        Columns ``item_id``, ``relation`` and ``entity``, by name in a frame, else by position.

    Raises
    ------
    ValueError, TypeError
        If it is no such table, is empty, or values are missing.

    Examples
    --------
    >>> from sklearn_recft.edges import check_edges
    >>> check_edges([[7, "genre", "drama"], [8, "genre", "drama"]]).names
    (('genre', 'drama'),)
    """
    columns = _columns(table)
    ids = {name: to_ids(columns[name], f"edges: {name}") for name in _COLUMNS}
    ids["relation"] = np.array(list(map(str, ids["relation"].tolist())), object)  # 1 is "1"
    relations, entities, items = Vocabulary(), Vocabulary(), Vocabulary()
    relation, entity = relations.extend(ids["relation"]), entities.extend(ids["entity"])
    pairs, codes = np.unique(relation * len(entities) + entity, return_inverse=True)
    relation, entity = np.divmod(pairs, len(entities))
    named = relations.ids[relation].tolist(), entities.ids[entity].tolist()
    names = tuple((r, str(e)) for r, e in zip(*named, strict=True))
    item = items.extend(ids[ITEM])
    _, first = np.unique(item * len(pairs) + codes, return_index=True)
    first.sort()
    starts = np.searchsorted(relation, np.arange(len(relations) + 1))
    return Edges(ids[ITEM][first], codes[first], names, starts)


def _columns(table: Any) -> dict[str, Any]:
    try:
        found = Table.of(table)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"edges: this {type(table).__name__} is no table of the columns {', '.join(_COLUMNS)}. "
            "Give one row for each edge, or edges=None."
        ) from error
    if not found.values.shape[0]:
        raise ValueError("edges: the table has no rows; give one for each edge, or edges=None.")
    if found.names is None:
        if found.values.shape[1] != len(_COLUMNS):
            raise ValueError(
                f"edges: the table has {found.values.shape[1]} columns; give {', '.join(_COLUMNS)}."
            )
        return {name: found.values[:, j] for j, name in enumerate(_COLUMNS)}
    absent = [name for name in _COLUMNS if name not in found.names]
    if absent:
        raise ValueError(
            f"edges: the columns {absent} are missing; the table has {list(found.names)}. Rename "
            "or add them."
        )
    return {name: found.values.get_column(name) for name in _COLUMNS}
