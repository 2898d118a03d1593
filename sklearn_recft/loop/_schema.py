"""Tables of the store."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from sklearn.utils import Bunch

if TYPE_CHECKING:
    from sqlalchemy import Table

# Changes of the tables raise it; a store of another number is refused.
VERSION = 1
# That of a store with a key, which earlier releases do not read.
KEYED_VERSION = 2


@cache
def tables() -> Bunch:
    """Return the tables by name, and ``metadata``.

    ``event``
        The log. ``user_id`` and ``item_id`` are JSON, so that 7 and "7" differ. ``seq`` is given
        out by the one who appends, without gaps: a number is visible only after all smaller ones.
    ``shown``
        Lists that were returned, one row per item.
    ``learned``
        What the model has done, in order of ``step``: the verb, and the range of events
        ``(after, until]``. It is written before the model learns.
    ``rejected``
        Events that the model refused, and the reason.
    ``subject``
        Only in a store with a key: the users, whose ``user_id`` in all tables is a surrogate then.
        ``lookup`` is a keyed code of the id, and ``sealed`` the encrypted id and key of the user.
    ``counter``
        Plain numbers: the version of the tables, the last ``seq`` given out, and how many
        timestamps were moved.
    """
    from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, SmallInteger, Table, Text

    metadata = MetaData()
    found = Bunch(metadata=metadata)

    def add(name: str, *columns: Column) -> Table:
        found[name] = Table(name, metadata, *columns)
        return found[name]

    whole = BigInteger().with_variant(Integer, "sqlite")
    add(
        "event",
        Column("seq", whole, primary_key=True, autoincrement=False),
        Column("event_id", Text, nullable=False, unique=True),
        Column("user_id", Text, nullable=False, index=True),
        Column("item_id", Text, nullable=False),
        Column("timestamp", Float(53), nullable=False),
        Column("kind", Text, nullable=False),
        Column("value", Float(53)),
        Column("list_id", Text),
        Column("context", Text),
        Column("clipped", SmallInteger, nullable=False),
        Column("received", Float(53), nullable=False),
    )
    add(
        "shown",
        Column("list_id", Text, primary_key=True),
        Column("position", Integer, primary_key=True, autoincrement=False),
        Column("user_id", Text, nullable=False, index=True),
        Column("item_id", Text, nullable=False),
        Column("score", Float(53)),
        Column("seq", whole, nullable=False),
        Column("model", Text, nullable=False),
        Column("received", Float(53), nullable=False, index=True),
    )
    add(
        "learned",
        Column("step", whole, primary_key=True, autoincrement=False),
        Column("verb", Text, nullable=False),
        Column("after", whole, nullable=False),
        Column("until", whole, nullable=False),
        Column("details", Text),
    )
    add(
        "rejected",
        Column("seq", whole, primary_key=True, autoincrement=False),
        Column("reason", Text, nullable=False),
    )
    add(
        "subject",
        Column("user_id", Text, primary_key=True),
        Column("lookup", Text, nullable=False, unique=True),
        Column("sealed", Text, nullable=False),
    )
    add("counter", Column("name", Text, primary_key=True), Column("value", whole, nullable=False))
    return found
