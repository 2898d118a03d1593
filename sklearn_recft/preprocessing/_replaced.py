"""Put other columns into a table, as what it was."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np

from sklearn_recft.names import ITEM, TIME, USER, as_roles
from sklearn_recft.tables import Table


def replaced(table: Table, new: dict[str, np.ndarray]) -> Any:
    """Return a table with other columns in place of those with a role."""
    if table.names is None or not table.is_named():
        given = table.values if table.names is None else table.values.to_numpy()
        values = np.array(given, object)
        places = list(table.columns((USER, ITEM, TIME)))
        for name, column in new.items():
            values[:, places.index(name)] = column
        return values
    spelled = dict(zip(as_roles(list(map(str, table.names))), table.names, strict=True))
    backend = table.values.implementation
    made = [
        nw.new_series(spelled[name], column.tolist(), backend=backend)
        for name, column in new.items()
    ]
    return table.values.with_columns(*made).to_native()
