"""Make the model of a log again, from its first base."""

from __future__ import annotations

import os
from typing import Any

from sklearn_recft.loop._feedback import Feedback
from sklearn_recft.loop._learner import Learner
from sklearn_recft.loop._rows import RowMaker
from sklearn_recft.loop._snapshots import Snapshots
from sklearn_recft.loop._steps import BASE
from sklearn_recft.loop._store import FeedbackStore


def replay(
    store: FeedbackStore,
    folder: str | os.PathLike[str],
    *,
    feedback: Feedback | None,
) -> Any:
    """Repeat all steps from the newest base on, and return the model; nothing is written.

    Parameters
    ----------
    store : FeedbackStore
    folder : str or path-like
        The folder of the `Loop`.
    feedback : dict of str to float or str, or None
        As in `Loop`.

    Returns
    -------
    model : estimator
        Equal to that of the loop, and to that of a loop that was never interrupted.
    """
    learner = Learner(store, Snapshots(folder, key=store.key), RowMaker(feedback))
    learner.writes = False
    base = learner.steps.last(BASE)
    if base is None:
        raise ValueError(f"{store.database.name} has no steps of a model.")
    learner.exchange(learner.snapshots.load(base.details["name"], base=True), base)
    while learner.repeat():
        pass
    return learner.model
