"""Interaction logs: real ones fetched or loaded, synthetic ones whose truth is known."""

from sklearn_recft.datasets._click_replay import ClickReplay
from sklearn_recft.datasets._click_simulator import ClickSimulator
from sklearn_recft.datasets._complete_journey import load_complete_journey
from sklearn_recft.datasets._files import load_interactions
from sklearn_recft.datasets._movielens import fetch_movielens
from sklearn_recft.datasets._synthetic import make_checkerboard, make_interactions
from sklearn_recft.datasets._text import HeaderWarning

__all__ = [
    "ClickReplay",
    "ClickSimulator",
    "HeaderWarning",
    "fetch_movielens",
    "load_complete_journey",
    "load_interactions",
    "make_checkerboard",
    "make_interactions",
]
