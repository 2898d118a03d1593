"""The decay model as the contract speaks to it: numbers as feedback, numbers as predictions."""

import numpy as np
from scipy.special import expit

from sklearn_recft import DecayBertRecommender


class DecayBertLikes(DecayBertRecommender):
    """Likes are feedback above a half, and a prediction is the probability of one."""

    def fit(self, X, y=None, sample_weight=None):
        """Fit to likes, of which there may be none or all."""
        classes = None if y is None else [0.0, 1.0]
        self._validate_params()
        self._anew(X, likes(y), sample_weight, None, classes)
        return self

    def partial_fit(self, X, y=None, sample_weight=None):
        """Learn further likes."""
        if not self.__sklearn_is_fitted__():
            return self.fit(X, y, sample_weight)
        return super().partial_fit(X, likes(y), sample_weight)

    def partial_fit_predict(self, X, y=None, sample_weight=None):
        """Predict and learn."""
        if not self.__sklearn_is_fitted__():
            classes = None if y is None else [0.0, 1.0]
            return expit(self._anew(X, likes(y), sample_weight, None, classes))
        return super().partial_fit_predict(X, likes(y), sample_weight)

    def predict(self, X):
        """Probability of a like."""
        return self.predict_proba(X)[:, 1]


def likes(y):
    """Likes among feedback; what is no number stays none, to be refused."""
    if y is None:
        return None
    y = np.asarray(y)
    return np.where(np.isfinite(y), y > 0.5, y) if y.dtype.kind == "f" else y
