"""Looking at fitted recommenders and at how they fared."""

from sklearn_recft.inspection._comparison import RecommenderComparisonDisplay
from sklearn_recft.inspection._few_shot import FewShotDisplay
from sklearn_recft.inspection._hybrid import HybridDisplay
from sklearn_recft.inspection._interest_decay import InterestDecayDisplay
from sklearn_recft.inspection._learning_curve import LearningCurveDisplay
from sklearn_recft.inspection._prequential import PrequentialDisplay

__all__ = [
    "FewShotDisplay",
    "HybridDisplay",
    "InterestDecayDisplay",
    "LearningCurveDisplay",
    "PrequentialDisplay",
    "RecommenderComparisonDisplay",
]
