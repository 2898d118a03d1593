"""Judging recommendations: accuracy of lists, what else they are like, and scorers."""

from sklearn_recft.metrics._beyond_accuracy import (
    catalogue_coverage_at_k,
    gini_index_at_k,
    intra_list_diversity_at_k,
)
from sklearn_recft.metrics._calibration import expected_calibration_error
from sklearn_recft.metrics._fairness import metric_by_group
from sklearn_recft.metrics._lists import ItemValues as ItemValues
from sklearn_recft.metrics._lists import distinct as distinct
from sklearn_recft.metrics._lists import item_values as item_values
from sklearn_recft.metrics._off_policy import (
    PolicyValue,
    doubly_robust_value,
    ips_value,
    item_position_value,
    snips_value,
)
from sklearn_recft.metrics._popularity import (
    average_popularity_at_k,
    item_popularity,
    novelty_at_k,
    popularity_lift_at_k,
)
from sklearn_recft.metrics._ranking import (
    grouped_roc_auc_score,
    hit_rate_at_k,
    map_at_k,
    mrr_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)
from sklearn_recft.metrics._rated_rows import ndcg_of_rows as ndcg_of_rows
from sklearn_recft.metrics._scorers import RANKING_METRICS as RANKING_METRICS
from sklearn_recft.metrics._scorers import make_ranking_scorer
from sklearn_recft.metrics._scorers import recommend_up_to as recommend_up_to
from sklearn_recft.metrics._scorers import relevant_rows as relevant_rows
from sklearn_recft.metrics._scorers import top_k_task as top_k_task

__all__ = [
    "PolicyValue",
    "average_popularity_at_k",
    "catalogue_coverage_at_k",
    "doubly_robust_value",
    "expected_calibration_error",
    "gini_index_at_k",
    "grouped_roc_auc_score",
    "hit_rate_at_k",
    "intra_list_diversity_at_k",
    "ips_value",
    "item_popularity",
    "item_position_value",
    "make_ranking_scorer",
    "map_at_k",
    "metric_by_group",
    "mrr_at_k",
    "ndcg_at_k",
    "novelty_at_k",
    "popularity_lift_at_k",
    "precision_at_k",
    "recall_at_k",
    "snips_value",
]
