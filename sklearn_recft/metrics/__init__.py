"""Judging recommendations: top-k metrics, AUC per user, and scorers for model selection."""

from sklearn_recft.metrics._ranking import (
    grouped_roc_auc_score,
    hit_rate_at_k,
    map_at_k,
    mrr_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)
from sklearn_recft.metrics._scorers import make_ranking_scorer

__all__ = [
    "grouped_roc_auc_score",
    "hit_rate_at_k",
    "make_ranking_scorer",
    "map_at_k",
    "mrr_at_k",
    "ndcg_at_k",
    "precision_at_k",
    "recall_at_k",
]
