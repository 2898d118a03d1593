"""Pipelines of transformers and a recommender, with all methods of the recommender."""

from sklearn_recft.pipeline._pipeline import RecommenderPipeline, make_recommender_pipeline

__all__ = ["RecommenderPipeline", "make_recommender_pipeline"]
