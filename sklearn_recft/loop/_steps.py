"""What the model has done, step by step: written before it is done, and repeated by a replay."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sklearn_recft.loop._bulk import insert_rows
from sklearn_recft.loop._database import Database
from sklearn_recft.loop._errors import StoreError
from sklearn_recft.loop._schema import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The verb of a step that replaces the model by a saved one, where others learn events.
BASE = "base"
# Numbers in one query: databases limit them.
_PIECE = 500


class Step(NamedTuple):
    """One step of the model.

    Attributes
    ----------
    number : int
        From 1 on, without gaps.
    verb : str
        The method that learns the events ``(after, until]``, such as "partial_fit_predict", or
        "add_items" for rows of new items; or "base": the model becomes the saved one that
        ``details`` names.
    after, until : int
    details : dict
        Of a base: ``name`` of the saved model (absent while it is not saved yet), ``reason``, and
        ``refused``, the ranges of events that are left out from now on.
    """

    number: int
    verb: str
    after: int
    until: int
    details: Mapping[str, Any] = MappingProxyType({})


class StepLog:
    """The tables ``learned`` and ``rejected`` of a store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, steps: Sequence[Step], *, durable: bool) -> None:
        """Write steps, all or none."""
        with self._database.writing(durable) as connection:
            self.add_within(connection, steps)

    def add_within(self, connection: Connection, steps: Sequence[Step]) -> None:
        """Write steps in a transaction that writes more."""
        insert_rows(connection, "learned", [tuple(self._row(step).values()) for step in steps])

    def describe(self, step: Step) -> None:
        """Write the details of a step again, which are on disk when it returns."""
        from sqlalchemy import update

        learned, row = tables().learned, self._row(step)
        with self._database.writing() as connection:
            connection.execute(
                update(learned)
                .where(learned.c.step == step.number)
                .values(details=row["details"], until=row["until"])
            )

    def after(self, number: int, limit: int = 1000) -> list[Step]:
        """Return the next steps after a number."""
        from sqlalchemy import select

        learned = tables().learned
        query = select(learned).where(learned.c.step > number).order_by(learned.c.step)
        with self._database.reading() as connection:
            return [self._step(row) for row in connection.execute(query.limit(limit))]

    def last(self, verb: str | None = None, until: int | None = None) -> Step | None:
        """Return the newest step, or the newest of a verb, up to a number."""
        from sqlalchemy import select

        learned = tables().learned
        query = select(learned).order_by(learned.c.step.desc()).limit(1)
        if verb is not None:
            query = query.where(learned.c.verb == verb)
        if until is not None:
            query = query.where(learned.c.step <= until)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else self._step(row)

    def bases(self, names: Iterable[str], size: int = _PIECE) -> list[Step]:
        """Return the steps that replaced the model by one of some saved models, oldest first.

        Parameters
        ----------
        names : iterable of str
            Names of saved bases.
        size : int, default=500
            Steps that are read at once, the newest first, until each name is found.
        """
        from sqlalchemy import select

        learned, missing = tables().learned, set(names)
        found: list[Step] = []
        newest = select(learned).where(learned.c.verb == BASE).order_by(learned.c.step.desc())
        before = 1 << 62
        while missing:
            query = newest.where(learned.c.step < before).limit(size)
            with self._database.reading() as connection:
                steps = [self._step(row) for row in connection.execute(query)]
            if not steps:
                break
            before = steps[-1].number
            found += [step for step in steps if step.details.get("name") in missing]
            missing -= {step.details.get("name") for step in steps}
        return found[::-1]

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Set events aside, with the reason; a replay that refuses them again changes nothing."""
        from sqlalchemy import insert, select

        rejected = tables().rejected
        seqs, known = list(reasons), set()
        with self._database.writing(durable=False) as connection:
            for start in range(0, len(seqs), _PIECE):
                part = rejected.c.seq.in_(seqs[start : start + _PIECE])
                known |= set(connection.execute(select(rejected.c.seq).where(part)).scalars())
            new = {seq: _plain(text) for seq, text in reasons.items() if seq not in known}
            hidden = self._database.ids.hide_reasons(connection, new)
            rows = [{"seq": seq, "reason": text} for seq, text in hidden.items()]
            if rows:
                connection.execute(insert(rejected), rows)

    def rejected(self, limit: int = 100) -> dict[int, str]:
        """Return the newest events that were set aside: the reason by ``seq``."""
        from sqlalchemy import select

        rejected = tables().rejected
        query = select(rejected).order_by(rejected.c.seq.desc()).limit(limit)
        with self._database.reading() as connection:
            found = {row.seq: row.reason for row in connection.execute(query)}
            return self._database.ids.show_reasons(connection, found)

    def are_rejected(self, seq: np.ndarray, size: int = 1000) -> np.ndarray:
        """Return which of some ascending numbers (n,) were set aside, bool.

        Parameters
        ----------
        seq : ndarray of shape (n,), int64
        size : int, default=1000
            Rows that are read at once.
        """
        from sqlalchemy import select

        rejected, found = tables().rejected.c.seq, np.zeros(len(seq), bool)
        after, until = (int(seq[0]) - 1, int(seq[-1])) if len(seq) else (0, 0)
        while after < until:
            query = select(rejected).where(rejected > after, rejected <= until)
            with self._database.reading() as connection:
                part = connection.execute(query.order_by(rejected).limit(size)).scalars().all()
            if not part:
                break
            after = part[-1]
            found |= np.isin(seq, part)
        return found

    def sync(self) -> None:
        """Wait until the disk has all steps that were written."""
        from sqlalchemy import update

        counter = tables().counter
        with self._database.writing() as connection:  # a durable commit: of nothing new
            connection.execute(
                update(counter).where(counter.c.name == "version").values(value=counter.c.value)
            )

    # ------------------------------------------------------------------ private

    def _row(self, step: Step) -> dict[str, Any]:
        text = json.dumps(dict(step.details)) if step.details else None
        details = text and self._database.ids.hide_text(text)  # an erasure names its users
        return {
            "step": step.number,
            "verb": step.verb,
            "after": step.after,
            "until": step.until,
            "details": details,
        }

    def _step(self, row: Any) -> Step:
        number, verb, after, until, text = row
        if text is None and verb != BASE and 0 <= after <= until:
            return Step(number, verb, after, until)
        details: Any = {}
        try:
            details = json.loads(self._database.ids.show_text(text)) if text else {}
            is_whole = verb != BASE or "name" in details or "user_ids" in details
        except (TypeError, ValueError):
            is_whole = False
        if not is_whole or not isinstance(details, dict) or not 0 <= after <= until:
            raise StoreError(f"Row {number} of the table learned is damaged: restore a copy.")
        return Step(number, verb, after, until, details)


def _plain(reason: str) -> str:
    """Return a reason as each database takes it."""
    return reason.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:2000]
