"""Binary labels as numbers, class weights, and what all classifiers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.columns import is_absent, is_number, refuse_missing, to_numbers
from sklearn_recft.events import Interactions


class BinaryLabelsMixin(RecommenderMixin):
    """Mixin of classifiers: labels of two classes, the second of which is the positive one.

    The model learns 0 and 1, and `_predict` returns the probability of the second class, or
    `_probability` is overridden.
    """

    classes_: np.ndarray

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probabilities of both classes for each row.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y_proba : ndarray of shape (n, 2), float64
        """
        positive = self._probability(X)
        return np.column_stack([1 - positive, positive])

    def predict(self, X: Any) -> np.ndarray:
        """Predict the more likely label of each row.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,)
        """
        likely = self._probability(X) > 0.5
        return self.classes_[likely.astype(int)]

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy on rows, or NDCG@10 without labels: see `RecommenderMixin.score`."""
        if y is not None and np.asarray(y).dtype.kind == "O":
            y = _of_one_type(np.asarray(y).ravel(), "y")
        return super().score(X, y, sample_weight)

    def _probability(self, X: Any) -> np.ndarray:
        """Return the probability (n,) of the second class of each row."""
        return self._predict(X)

    def _check(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None
    ) -> Interactions:
        """Validate rows, and turn labels into 0 and 1; a fit sets ``classes_``."""
        code, known = None, None if reset else self.classes_
        if classes is not None:
            given = _both(classes)
            if known is not None and given.tolist() != known.tolist():
                raise ValueError(
                    f"classes={given.tolist()} are not those of the first call, {known.tolist()}. "
                    "Leave them out, or call fit to start anew."
                )
            known = given if known is None else known
        if y is not None:
            known, code = encode_labels(y, known)
        events = super()._check(X, code, sample_weight, reset=reset)
        self.classes_ = np.array([0, 1]) if known is None else known
        return events

    def _relevance(self, y: Any) -> Any:
        return None if y is None else np.asarray(y) == self.classes_[1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        # Ids are not numeric: rows of unseen ids cannot be distinguished.
        tags.classifier_tags.poor_score = True
        return tags


def encode_labels(y: Any, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return both classes, ascending, and each label as 0.0 or 1.0, shape (n,).

    ``classes`` are the known classes; None takes them from ``y``.
    """
    y = np.asarray(y)
    if y.ndim == 0:
        raise ValueError(f"y should be a 1d array, got {y!r}.")
    labels = _of_one_type(column_or_1d(y, warn=True), "y")
    if not len(labels):
        raise ValueError(
            "Found array with 0 sample(s) while a minimum of 1 is required: y is empty."
        )
    check_classification_targets(labels)
    found = np.unique(labels)
    if classes is None:
        classes = found
        if len(classes) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is multiclass: "
                f"y has {len(classes)} classes, the first {classes[:5].tolist()}; make it two, "
                "for example y >= 4."
            )
        if len(classes) < 2:
            raise ValueError(
                f"y has one class only, {classes.tolist()[0]!r}: nothing tells it from another. "
                "Add rows of the other class, or give both labels as classes= of partial_fit. For "
                "a log of positives, leave y out."
            )
    try:
        code = np.searchsorted(classes, labels).clip(max=1)
    except TypeError:  # texts in an array of objects, and classes that are numbers
        code = np.zeros(len(labels), np.int64)
    strange = classes[code] != labels
    if strange.any():
        first, second = classes.tolist()
        raise ValueError(
            f"y: {int(strange.sum())} of {len(labels)} labels are neither {first!r} nor "
            f"{second!r}, the first is {labels[strange].tolist()[0]!r}. Drop these rows. If the "
            "first rows had a wrong pair of labels, fit a new model on all rows, or give it both "
            "labels as classes=."
        )
    return classes, code.astype(np.float64)


def _both(classes: Any) -> np.ndarray:
    """Return two labels, ascending."""
    listed = isinstance(classes, Iterable) and not isinstance(classes, (str, bytes))
    values = np.asarray(classes if hasattr(classes, "__array__") or not listed else list(classes))
    labels = np.unique(_of_one_type(values.ravel(), "classes"))
    if len(labels) != 2:
        raise ValueError(f"classes: {labels.tolist()} are not two labels; give both.")
    return labels


def _of_one_type(labels: np.ndarray, name: str) -> np.ndarray:
    """Return labels without missing ones; booleans and numbers among objects become an array."""
    listed = labels.tolist()
    if labels.dtype.kind == "f":
        to_numbers(labels, f"Input {name}")
    if labels.dtype.kind != "O":
        return labels
    refuse_missing(listed, name, sum(map(is_absent, listed)))
    kinds = set(map(type, listed))
    if all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        return labels.astype(bool)
    if all(issubclass(kind, Real) and kind is not bool for kind in kinds):
        return np.array(listed)
    if len(kinds) > 1 and not all(issubclass(kind, str) for kind in kinds):
        names = sorted(kind.__name__ for kind in kinds)
        raise ValueError(
            f"{name}: the {len(listed)} labels are of several types, {', '.join(names)}; turn all "
            "into one type, for example by astype(str)."
        )
    return labels


def class_weights(class_weight: Any, classes: np.ndarray, code: np.ndarray | None) -> np.ndarray:
    """Return the weight of each class, shape (2,)."""
    if isinstance(class_weight, Mapping):
        wrong = [w for w in class_weight.values() if not (is_number(w) and 0 < float(w) < np.inf)]
        if wrong:
            raise ValueError(
                f"class_weight={dict(class_weight)!r}: {wrong[0]!r} is no weight; give a finite "
                "number above 0 for each label, or leave out the rows of a class."
            )
    if class_weight is None or code is None:
        return np.ones(2)
    if class_weight == "balanced" and len(np.unique(code)) < 2:
        raise ValueError(
            "class_weight='balanced' needs rows of both classes in the first call, and y has one "
            f"class only, {classes.tolist()[int(code[0])]!r}; give a dict of weights by label."
        )
    return compute_class_weight(class_weight, classes=classes, y=classes[code.astype(int)])
