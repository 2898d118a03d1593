"""Choosing rows: splitters that respect time and users, and the predict-then-learn loop."""

from sklearn_recft.model_selection._compare import compare_recommenders
from sklearn_recft.model_selection._comparison import RecommenderComparison
from sklearn_recft.model_selection._few_shot import FewShotResult, few_shot_curve
from sklearn_recft.model_selection._guard import Guard
from sklearn_recft.model_selection._learning_curve import learning_curve_by_events
from sklearn_recft.model_selection._prequential import iter_prequential, prequential_score
from sklearn_recft.model_selection._replay import PrequentialStep
from sklearn_recft.model_selection._split import ColdUserSplit, LeaveLastOut, TemporalSplit
from sklearn_recft.model_selection._time_order import RandomSplitWarning, check_time_order
from sklearn_recft.model_selection._unlearn import unlearn

__all__ = [
    "ColdUserSplit",
    "FewShotResult",
    "Guard",
    "LeaveLastOut",
    "PrequentialStep",
    "RandomSplitWarning",
    "RecommenderComparison",
    "TemporalSplit",
    "check_time_order",
    "compare_recommenders",
    "few_shot_curve",
    "iter_prequential",
    "learning_curve_by_events",
    "prequential_score",
    "unlearn",
]
