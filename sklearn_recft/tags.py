"""Tags of recommenders: what one is and can do, read by the documentation and by tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RecommenderTags:
    """What a recommender is; README, documentation and contract tests read it.

    Attributes
    ----------
    predicts : {"feedback", "probability", "order"}
        What `predict` (a classifier's `predict_proba`) returns: the expected feedback, the
        probability of the second class, or a score that only orders items.
    lists_by : {"predictions", "own score"}
        What `recommend` ranks by, and returns as scores.
    partial_fit : {"exact", "exact for items", "warm start", "fold-in"}
        How `partial_fit` learns. "exact": it equals one `fit` on all rows; "exact for items": its
        item part does. "warm start": it goes on from the fitted model. "fold-in": it solves for the
        users and items of the new rows, known or not.
    reads : tuple of {"time", "order", "text", "query", "context"}
        Optional columns that the answers depend on.
    personal : bool
        Whether users get different lists.
    finds_new : bool
        Whether a user's list has items that suit the user's taste and are new to the user.
    adapts : str
        What `adapt` changes: "the user's factors", "the history". Empty without `adapt`.
    keeps : str
        What memory `partial_fit` keeps.
    forget : {"exact", "erased"}
        What `forget` leaves of users. "exact": nothing, the model equals a fit without them.
        "erased": what other parameters learned from them.
    merges : {"", "any parts", "parts by users"}
        Which parts of a log `sklearn_recft.scale.merge` merges exactly, with the default
        parameters: any, or those with different users. Empty: none.
    splits_fit : bool
        Whether `sklearn_recft.scale.fit_distributed` can split the training among processes.
    learns : str
        One line: what the model learns.
    """

    predicts: str = "feedback"
    lists_by: str = "predictions"
    partial_fit: str = "exact"
    reads: tuple[str, ...] = ()
    personal: bool = True
    finds_new: bool = True
    adapts: str = ""
    keeps: str = ""
    forget: str = "erased"
    merges: str = ""
    splits_fit: bool = False
    learns: str = ""


# Methods beyond `fit` and `predict`, in the order in which tables list them.
VERBS = (
    "partial_fit",
    "adapt",
    "observe",
    "recommend",
    "ask",
    "partial_fit_predict",
    "partial_fit_predict_proba",
    "partial_fit_recommend",
    "observe_predict_proba",
    "similar_items",
    "explain",
    "attend",
)


def verbs_of(estimator: Any) -> tuple[str, ...]:
    """Return which of these methods an estimator, or a class of estimators, has."""
    return tuple(verb for verb in VERBS if hasattr(estimator, verb))


def recommender_tags(estimator: Any) -> RecommenderTags:
    """Return the `RecommenderTags` of an estimator."""
    return estimator.__recommender_tags__()
