"""Find every estimator of the package, and make instances that are small and fast."""

import importlib
import inspect
import os
import pkgutil

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from skorch import NeuralNet

import sklearn_recft
from sklearn_recft import EASERecommender, IncrementalMFRecommender, PopularityRecommender

# A key for `Pseudonymizer`, which processes that the checks start inherit.
os.environ["SKLEARN_RECFT_TEST_KEY"] = "a key of the tests alone"

# Parameters without a default, as scikit-learn's checks have them for its meta-estimators.
_REQUIRED = {
    "estimators": lambda: [
        ("popularity", PopularityRecommender()),
        ("ease", EASERecommender(reg=5.0)),
        ("factors", IncrementalMFRecommender(n_factors=4, max_epochs=2)),
    ],
    "key": lambda: "SKLEARN_RECFT_TEST_KEY",
}

# Values that make an estimator fast on the small logs of the checks, by name of a parameter.
_SMALL = {
    "backbone": None,
    "max_epochs": 3,
    "max_history": 20,
    "n_factors": 8,
    "random_state": 0,
    "width": 16,
}


def all_estimators():
    """Return every public estimator class that is defined in the package, by name."""
    found = {}
    for module in pkgutil.walk_packages(sklearn_recft.__path__, "sklearn_recft."):
        if module.name.endswith("__main__"):
            continue
        for name, member in vars(importlib.import_module(module.name)).items():
            if (
                inspect.isclass(member)
                and issubclass(member, BaseEstimator)
                and member.__module__.startswith("sklearn_recft.")
                and not name.startswith("_")
                and hasattr(member, "fit")  # FineTuning holds settings and fits nothing
                and not issubclass(member, NeuralNet)  # inside of an estimator
                and not issubclass(member, Pipeline)  # made of estimators; tests/pipeline checks it
                and not inspect.isabstract(member)
            ):
                found[member.__name__] = member
    return found


def default(cls):
    """Return an instance of a class; parameters without a default are those of `_REQUIRED`."""
    parameters = inspect.signature(cls).parameters
    return cls(**{name: make() for name, make in _REQUIRED.items() if name in parameters})


def small(cls, **options):
    """Return an instance that is fast: of its parameters, those in `_SMALL` are set."""
    estimator = default(cls)
    known = estimator.get_params()
    return estimator.set_params(**{n: v for n, v in _SMALL.items() if n in known} | options)
