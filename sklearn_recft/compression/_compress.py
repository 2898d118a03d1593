"""Compress the tables of a fitted recommender."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.compression._als import CompactALSModel
from sklearn_recft.compression._factorization import CompactFactorizationModel, CompactSoftmaxModel
from sklearn_recft.compression._models import KEEPS, CompactModel
from sklearn_recft.compression._onnx_encoder import with_onnx_encoder
from sklearn_recft.compression._sequence import CompactSequenceModel
from sklearn_recft.compression._tables import PRECISIONS
from sklearn_recft.models import (
    AdamFactorizationModel,
    AdaptiveModel,
    BayesianMFModel,
    CrossModel,
    DecayModel,
    EASEModel,
    FittedModel,
    FollowingFactorizationModel,
    ItemKNNModel,
    RP3BetaModel,
    SequenceModel,
    SequentialRulesModel,
)

Recommender = TypeVar("Recommender", bound=RecommenderMixin)

_COMPACT: tuple[type[CompactModel], ...] = (
    CompactFactorizationModel,
    CompactSoftmaxModel,
    CompactALSModel,
    CompactSequenceModel,
)
# Precision of a text encoder in ONNX Runtime.
_BACKBONES = {"onnx": "float32", "onnx-int8": "int8"}
_BY_ORIGINAL = {compact.original: compact for compact in _COMPACT}
# Why others are refused, by model.
_REFUSED: dict[type[FittedModel], str] = {
    AdamFactorizationModel: (
        "its tables are those of a net with an optimizer. Fit it with solver='sgd'"
    ),
    FollowingFactorizationModel: "it mixes two copies of its tables. Fit it with drift=None",
    AdaptiveModel: "it is a blend of several models",
    BayesianMFModel: "it adds events to sums in float64, which few bits would not keep",
    CrossModel: "compiled code looks up its embeddings in float32",
    DecayModel: "compiled code looks up its embeddings in float32",
    EASEModel: "its weights are those of pairs of items, and no factors",
    ItemKNNModel: "it holds similarities of pairs of items. For a smaller one, lower n_neighbors",
    SequentialRulesModel: "it holds rules, and no factors. For a smaller one, lower n_neighbors",
    RP3BetaModel: "it holds weights of pairs of items. For a smaller one, lower n_neighbors",
}


def compress(
    model: Recommender,
    *,
    tables: str | None = "int8",
    backbone: str | None = None,
    keep: str = "serve",
) -> Recommender:
    """Return a copy of a fitted recommender whose tables take a quarter or half of the bytes.

    With "int8", row j of a table is stored as ``s_j c_j``, with integers c_j from -127 to 127 and
    one float32 scale ``s_j = max |row| / 127``. Lists are scored from these integers: the table is
    never held in float32.

    Parameters
    ----------
    model : estimator
        A fitted recommender with tables; see the notes. It does not change.
    tables : {"int8", "float16", "bfloat16"} or None, default="int8"
        Numbers of the tables. "int8" takes a quarter of the bytes of float32, and the others half.
        None, with a ``backbone``, leaves them as they are, and the copy learns as before.
    backbone : {"onnx", "onnx-int8"}, default=None
        Run the frozen text encoder in ONNX Runtime, by float32 or by int8; see
        `with_onnx_encoder`.
    keep : {"serve", "learn"}, default="serve"
        "serve": drop what only learning needs. `recommend`, `predict`, `observe`, `similar_items`,
        `explain` and `forget` work. `partial_fit` raises an error; so does `adapt`, except that of
        ALS and of the transformer. "learn": `partial_fit` works as in a model whose tables were
        rounded once. It expands the tables while it learns, and then keeps the rows that have
        changed in float32.

    Returns
    -------
    compressed : estimator
        Of the same class, with the same parameters and ids. It can be saved, pickled and cloned;
        a clone is not fitted, and its `fit` makes a model in full.

    Raises
    ------
    TypeError
        If ``model`` is no recommender of this package.
    ValueError
        If the model has no tables, or an option is unknown, or a number is not finite.
    NotFittedError
        Before `fit`.

    Examples
    --------
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.compression import compress, model_bytes
    >>> from sklearn_recft.datasets import make_checkerboard
    >>> X, y = make_checkerboard(50, 40, return_X_y=True)
    >>> model = IncrementalMFRecommender(random_state=0).fit(X, y)
    >>> small = compress(model)
    >>> model_bytes(small) < model_bytes(model)
    True
    >>> float(abs(small.predict(X) - model.predict(X)).max()) < 0.02
    True
    """
    _check_options(tables, backbone, keep)
    if backbone is not None:
        model = with_onnx_encoder(model, _BACKBONES[backbone])
    if tables is None:
        return model
    fitted = fitted_model(model)
    with fitted.reading():
        if isinstance(fitted, CompactModel):
            fitted = _for_again(fitted, keep)
        compact = _compact_class(model, fitted)
        if keep == "learn" and not compact.learns:
            raise ValueError(f"keep='learn': a {type(model).__name__} cannot: {compact.why_not}.")
        return model.__recommender_around__(compact.of(fitted, tables, keep))


def model_bytes(model: RecommenderMixin) -> int:
    """Return the bytes of the arrays in the state of a fitted recommender.

    Parameters
    ----------
    model : estimator
        A fitted recommender.

    Returns
    -------
    n_bytes : int
        Of tables, histories and seen items; without ids.
    """
    return _bytes(fitted_model(model).state())


def fitted_model(model: object) -> FittedModel:
    """Return the model of a fitted recommender."""
    if not isinstance(model, RecommenderMixin):
        raise TypeError(
            f"model: a {type(model).__name__} is no recommender. Give a fitted recommender of this "
            "package; of a pipeline, give the last step."
        )
    check_is_fitted(model)
    return model.__recommender_model__()


def _check_options(tables: Any, backbone: Any, keep: Any) -> None:
    choices: tuple[tuple[str, Any, Collection[Any]], ...] = (
        ("tables", tables, (*PRECISIONS, None)),
        ("backbone", backbone, (*_BACKBONES, None)),
        ("keep", keep, KEEPS),
    )
    for name, value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: choose one of {', '.join(map(repr, allowed))}.")
    if tables is None and backbone is None:
        raise ValueError("tables=None and backbone=None: give one of them to compress.")


def _compact_class(model: RecommenderMixin, fitted: FittedModel) -> type[CompactModel]:
    """Return the compressed class of a model."""
    found = _BY_ORIGINAL.get(type(fitted))
    if isinstance(fitted, SequenceModel) and fitted.reads_vectors:
        raise ValueError(
            f"A {type(model).__name__} with vectors of items (embedding) cannot be compressed: "
            "vectors may still come for items of its catalogue."
        )
    if found is not None:
        return found
    reason = _REFUSED.get(type(fitted), "it has no tables of factors")
    raise ValueError(f"A {type(model).__name__} cannot be compressed: {reason}.")


def _for_again(fitted: CompactModel, keep: str) -> FittedModel:
    """Return the model in full of one that was compressed before."""
    if not fitted.learns or (keep == "learn" and fitted.keep != "learn"):
        raise ValueError(
            f"This model was compressed before, with keep={fitted.keep!r}, which drops what is "
            "needed to compress it like that. Compress the model in full."
        )
    return fitted.expanded()


def _bytes(value: Any) -> int:
    """Return the bytes of all arrays in a state."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, csr_array):
        return sum(a.nbytes for a in (value.data, value.indices, value.indptr))
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    return sum(map(_bytes, value)) if isinstance(value, (list, tuple)) else 0
