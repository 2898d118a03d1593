"""
Keep a recommender fresh
========================
"""

from sklearn_recft import PopularityRecommender

PopularityRecommender().fit([["ann", "tea"]])
