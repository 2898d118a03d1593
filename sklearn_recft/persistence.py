"""Saving fitted estimators in the formats of other packages."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module

from sklearn import model_selection as splitters
from sklearn.base import BaseEstimator
from sklearn.metrics import check_scoring
from sklearn.model_selection import BaseCrossValidator, BaseShuffleSplit

from sklearn_recft import (
    estimators,
    metrics,
    model_selection,
    models,
    pipeline,
    preprocessing,
    text,
    training,
)
from sklearn_recft.models import FittedModel
from sklearn_recft.text import PretrainedBackbone

# Rooms whose objects are part of a saved estimator or search.
_ROOMS = (estimators, metrics, model_selection, models, pipeline, preprocessing, text, training)
# Kinds that hold parameters and arrays. Other kinds are refused; nets are, since skorch would
# unpickle them.
_KINDS = (BaseEstimator, BaseCrossValidator, FittedModel, PretrainedBackbone)


def trusted_types() -> list[str]:
    """Return the types that `skops.io.load` needs to load estimators of this package.

    These are the estimators, their fitted models and settings, and the splitters and scorers of a
    search, those of scikit-learn included. They hold parameters and arrays. A file that contains
    only these types runs no code of its own when it is loaded.

    Returns
    -------
    names : list of str
        Full names of classes, in alphabetical order, for ``skops.io.load(file, trusted=...)`` or
        ``mlflow.sklearn.log_model(..., skops_trusted_types=...)``.

    Notes
    -----
    The list is made by importing all estimators, and torch with them. Save it, if that takes too
    long where only a classical model is loaded.

    Classes of other packages in ``net_params``, such as optimizers and callbacks, are not
    included, nor are types of ids other than strings, numbers, bytes, times and tuples of them.
    Append their names to the list, if you trust them.

    Examples
    --------
    >>> from sklearn_recft import trusted_types
    >>> "sklearn_recft.estimators._ease.EASERecommender" in trusted_types()
    True
    """
    own = filter(_is_plain, _classes())
    return sorted({f"{cls.__module__}.{cls.__qualname__}" for cls in (*own, *_of_searches())})


def _classes() -> Iterator[type]:
    """Iterate over the classes that are defined in the rooms."""
    for room in _ROOMS:
        for found in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            for member in vars(import_module(found.name)).values():
                if inspect.isclass(member) and member.__module__ == found.name:
                    yield member


def _of_searches() -> Iterator[type]:
    """Iterate over what a search holds by default: splitters, and the scorer that calls `score`."""
    for member in vars(splitters).values():
        if inspect.isclass(member) and issubclass(member, (BaseCrossValidator, BaseShuffleSplit)):
            yield member
    yield type(check_scoring(estimators.PopularityRecommender()))


def _is_plain(cls: type) -> bool:
    if any(base.__module__.startswith(("skorch.", "torch.")) for base in cls.__mro__):
        return False
    return issubclass(cls, _KINDS) or is_dataclass(cls)
