"""Saving fitted estimators in the formats of other packages."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module

from sklearn import model_selection as splitters
from sklearn.metrics import check_scoring
from sklearn.model_selection import BaseCrossValidator, BaseShuffleSplit
from sklearn.utils.metadata_routing import MetadataRequest

from sklearn_recft.persistence._kinds import classes, is_plain


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
    own = filter(is_plain, classes())
    return sorted({f"{cls.__module__}.{cls.__qualname__}" for cls in (*own, *_of_searches())})


def _of_searches() -> Iterator[type]:
    """Iterate over what a search holds: splitters, the scorer that calls `score`, its requests."""
    for member in vars(splitters).values():
        if inspect.isclass(member) and issubclass(member, (BaseCrossValidator, BaseShuffleSplit)):
            yield member
    yield type(check_scoring(import_module("sklearn_recft.estimators").PopularityRecommender()))
    requests = MetadataRequest(owner="")  # names of metadata and whether they are wanted
    yield from (type(requests), type(requests.fit))
