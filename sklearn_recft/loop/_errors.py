"""Errors of the loop that are no fault of the caller's data."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


class ServingError(RuntimeError):
    """Base class of the errors of the loop and of its store."""


class QueueFullError(ServingError):
    """More events wait for their commit than the queue holds. Nothing was stored; try later."""


class NotRunningError(ServingError):
    """The loop was not started, was stopped, or its thread that stores events has ended."""


class StoreError(ServingError):
    """The database could not do it: disk full, read-only, locked, damaged."""


@contextmanager
def naming_store(url: str) -> Iterator[None]:
    """Turn errors of the database into a `StoreError` that names it, without its password."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        reason = str(getattr(error, "orig", None) or error).strip()
        raise StoreError(
            f"{url}: {reason}. Nothing was stored by this call, unless "
            "the connection broke during its commit: it can be repeated."
        ) from error
