"""`export_onnx`: a part of a fitted estimator as an ONNX file, and what belongs to it as JSON."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.compression._models import CompactModel
from sklearn_recft.compression._onnx_encoder import encoder_graph, encoder_of, has_encoder
from sklearn_recft.compression._onnx_extra import import_extra
from sklearn_recft.compression._onnx_scores import scores_graph
from sklearn_recft.models import FactorizationModel, FittedModel, SoftmaxFactorizationModel
from sklearn_recft.text import reading_of

_FORMAT = 1
_FACTORIZATIONS = (FactorizationModel, SoftmaxFactorizationModel)


def export_onnx(model: RecommenderMixin, path: str | os.PathLike[str]) -> Path:
    """Export the scores of a factorization, or a text encoder, to an ONNX file.

    Other programs read the file, in any language that ONNX Runtime has. They need neither this
    package nor torch. Ids, or the tokenizer, are in a JSON file of the same name.

    Parameters
    ----------
    model : estimator
        * A fitted `IncrementalMFRecommender` or `IncrementalMFClassifier` without
          ``habit_half_life``: the graph scores pairs of users and items.
        * A fitted `DecayBertRecommender` or `RealtimeTransformerRecommender` that reads texts: the
          graph encodes texts, trained encoders included. The net above it is not exported.
    path : str or path-like
        File to write; its suffix must be ``.onnx``. The JSON file has the suffix ``.json``.

    Returns
    -------
    path : Path
        The ONNX file.

    Raises
    ------
    TypeError
        If estimators of this kind cannot be exported, or ids are no strings or numbers.
    ValueError
        If the path has another suffix, or this estimator cannot be exported; the message says why.
    NotFittedError
        Before `fit`.
    ImportError
        If a package of the extra [onnx] is missing.

    Notes
    -----
    The graph of scores has the inputs ``user`` (n,) and ``item`` (m,), int64: the places of ids in
    ``users`` and ``items`` of the JSON file, or -1 for an unknown id. With context columns, there
    is ``context`` (n, c), float64; their names and average are in the JSON file. The outputs are
    ``scores`` (n, m), by which `recommend` orders items, and ``predictions`` (n, m), which is what
    `predict` or `predict_proba` returns. Both equal the estimator's up to 1e-5. Seen items are not
    in the file: leave them out of ``item``, as `recommend` does. ``loss="softmax"``: users are as
    of the export, with the events until then.

    The graph of an encoder has the inputs ``input_ids`` and ``attention_mask`` (n, length), int64,
    and the output ``vectors`` (n, width), float32: means of the last hidden states. The JSON file
    has ``tokenizer``, which ``tokenizers.Tokenizer.from_str`` reads, and ``max_tokens``.

    ``sha256`` in the JSON file is that of the ONNX file. Each file is written beside and renamed.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import onnxruntime
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.compression import export_onnx
    >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "rice"]]
    >>> model = IncrementalMFRecommender(random_state=0).fit(X, [5.0, 3.0, 4.0, 1.0])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = export_onnx(model, Path(folder, "scores.onnx"))
    ...     ids = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    ...     session = onnxruntime.InferenceSession(path)
    >>> user = np.array([ids["users"].index("ann"), -1])  # -1 is an unknown user
    >>> item = np.array([ids["items"].index("rice")])
    >>> predictions = session.run(["predictions"], {"user": user, "item": item})[0]
    >>> expected = model.predict([["ann", "rice"], ["eve", "rice"]])
    >>> bool(np.allclose(predictions[:, 0], expected, atol=1e-5))
    True
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise ValueError(f"path={str(path)!r}: give a file whose suffix is .onnx.")
    check_is_fitted(model)
    onnx = import_extra()
    fitted = _model_of(model)
    if isinstance(fitted, _FACTORIZATIONS):
        full = fitted.expanded() if isinstance(fitted, CompactModel) else fitted
        data, facts = _scores(model, full)
    elif fitted is not None and has_encoder(model):
        data, facts = _encoder(model)
    else:
        raise TypeError(_refusal(model))
    onnx.checker.check_model(data, full_check=True)
    facts = {
        "format": _FORMAT,
        "estimator": type(model).__name__,
        "graph": target.name,
        "sha256": hashlib.sha256(data).hexdigest(),
        **facts,
    }
    text = json.dumps(facts, ensure_ascii=False, allow_nan=False, indent=1)
    _write(target, data)
    _write(target.with_suffix(".json"), text.encode("utf-8"))
    return target


def _model_of(model: RecommenderMixin) -> FittedModel | None:
    """Return the fitted model of a recommender, or None for other estimators."""
    get = getattr(model, "__recommender_model__", None)
    return None if get is None else get()


def _refusal(model: RecommenderMixin) -> str:
    return (
        f"A {type(model).__name__} cannot be exported to ONNX. IncrementalMFRecommender and "
        "IncrementalMFClassifier (their scores), DecayBertRecommender and "
        "RealtimeTransformerRecommender (their text encoder) can."
    )


def _scores(model: RecommenderMixin, fitted: FittedModel) -> tuple[bytes, dict[str, Any]]:
    """Return the graph of scores, and the ids."""
    if fitted.habits is not None:  # type: ignore[attr-defined]
        raise ValueError(
            f"habit_half_life: scores of this {type(model).__name__} depend on the time of the "
            "query and the user's habits, which an ONNX graph has not. Fit without it to export."
        )
    facts: dict[str, Any] = {
        "kind": "scores",
        "users": _as_json(fitted.users.ids, "user_id"),
        "items": _as_json(fitted.items.ids, "item_id"),
    }
    if isinstance(fitted, FactorizationModel) and fitted.context_names:
        average = fitted.module.average_context()
        facts |= {"context": list(fitted.context_names), "average_context": average.tolist()}
    if hasattr(model, "classes_"):
        facts["classes"] = _as_json(model.classes_, "y")
    return scores_graph(fitted).SerializeToString(), facts  # type: ignore[arg-type]


def _encoder(model: RecommenderMixin) -> tuple[bytes, dict[str, Any]]:
    """Return the graph of the text encoder, and its tokenizer."""
    encoder = encoder_of(model)
    reading = reading_of(encoder)
    facts = {
        "kind": "text encoder",
        "backbone": encoder.backbone,
        "width": encoder.width,
        "max_tokens": reading["max_tokens"],
        "tokenizer": reading["tokenizer"],
    }
    return encoder_graph(encoder), facts


def _as_json(ids: np.ndarray, column: str) -> list[Any]:
    """Return ids as plain values of JSON."""
    values = [one.item() if isinstance(one, np.generic) else one for one in ids.tolist()]
    wrong = [one for one in values if type(one) not in (str, int, float, bool)]
    if wrong:
        raise TypeError(
            f"{column}: {len(wrong)} of {len(values)} ids are no strings or numbers, the first is "
            f"{wrong[0]!r}. Map them to strings before fit to export them."
        )
    return values


def _write(path: Path, data: bytes) -> None:
    """Write a file beside, and rename it: another program sees the old or the new one."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
