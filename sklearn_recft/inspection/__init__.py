"""Looking at fitted recommenders and at how they fared."""

from sklearn_recft.inspection._plots import PrequentialDisplay

__all__ = ["PrequentialDisplay"]
