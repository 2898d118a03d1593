"""Scores of a matrix factorization as an ONNX graph: two look-ups, one product, biases, context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft.compression._onnx_extra import import_extra
from sklearn_recft.models import (
    FactorizationModel,
    FollowingFactorizationModel,
    SoftmaxFactorizationModel,
)

_OPSET, _IR_VERSION = 17, 9  # of 2023: readable by older runtimes
Scorable = FactorizationModel | SoftmaxFactorizationModel


@dataclass(frozen=True)
class _Tables:
    """What the graph holds; the last row of each table is that of an unknown id.

    Attributes
    ----------
    users, items : (factors (n + 1, k), biases (n + 1,))
    mean : float
    center, scale, weight : ndarray of shape (c,)
        Of the context columns.
    low, high : float or None
        Bounds of the feedback.
    """

    users: tuple[np.ndarray, np.ndarray]
    items: tuple[np.ndarray, np.ndarray]
    mean: float
    center: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bounds: tuple[float, float] | None


def scores_graph(model: Scorable) -> Any:
    """Return the scores of a model as an ONNX model.

    Inputs are ``user`` (n,) and ``item`` (m,), int64 codes, -1 for unknown, and ``context`` (n, c),
    float64, if the model has context. Outputs are ``scores`` (n, m), by which `recommend` ranks,
    and ``predictions`` (n, m), what `predict` returns.
    """
    onnx = import_extra()
    with model.reading():
        tables, loss = _tables_of(model), model.settings.loss
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    float32, float64, int64 = (getattr(onnx.TensorProto, n) for n in ("FLOAT", "DOUBLE", "INT64"))
    held: dict[str, Any] = {
        "user_factors": tables.users[0],
        "user_biases": tables.users[1] + np.float32(tables.mean),
        "item_factors": tables.items[0],
        "item_biases": tables.items[1],
        "last_axis": np.array([1]),
    }
    inputs: list[tuple[str, int, list[Any]]] = [("user", int64, ["n"]), ("item", int64, ["m"])]
    nodes = [
        helper.make_node("Gather", ["user_factors", "user"], ["p"]),  # (n, k)
        helper.make_node("Gather", ["item_factors", "item"], ["q"]),  # (m, k)
        helper.make_node("Transpose", ["q"], ["q_t"], perm=[1, 0]),
        helper.make_node("MatMul", ["p", "q_t"], ["products"]),  # (n, m)
        helper.make_node("Gather", ["item_biases", "item"], ["b_i"]),  # (m,)
        helper.make_node("Add", ["products", "b_i"], ["of_items"]),
        helper.make_node("Gather", ["user_biases", "user"], ["b_u"]),  # (n,)
        helper.make_node("Unsqueeze", ["b_u", "last_axis"], ["b_u_column"]),  # (n, 1)
    ]
    rows = "b_u_column"
    if len(tables.weight):
        inputs.append(("context", float64, ["n", len(tables.weight)]))
        held |= {"center": tables.center, "scale": tables.scale, "weight": tables.weight[:, None]}
        nodes += [
            helper.make_node("Sub", ["context", "center"], ["centered"]),  # (n, c)
            helper.make_node("Div", ["centered", "scale"], ["scaled"]),
            helper.make_node("Cast", ["scaled"], ["standardized"], to=float32),
            helper.make_node("MatMul", ["standardized", "weight"], ["of_context"]),  # (n, 1)
            helper.make_node("Add", ["b_u_column", "of_context"], ["of_rows"]),
        ]
        rows = "of_rows"
    nodes.append(helper.make_node("Add", ["of_items", rows], ["scores"]))  # (n, m)
    if tables.bounds is not None:
        held |= {n: np.float32(b) for n, b in zip(("low", "high"), tables.bounds, strict=True)}
        nodes.append(helper.make_node("Clip", ["scores", "low", "high"], ["predictions"]))
    else:
        link = "Sigmoid" if loss == "log_loss" else "Identity"
        nodes.append(helper.make_node(link, ["scores"], ["predictions"]))
    graph = helper.make_graph(
        nodes,
        "scores",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(n, float32, ["n", "m"]) for n in ("scores", "predictions")],
        [array(np.asarray(value), name) for name, value in held.items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    made.producer_name = "sklearn-recft"
    return made


def _tables_of(model: Scorable) -> _Tables:
    """Read the tables of a model."""
    none = np.empty(0)
    if isinstance(model, SoftmaxFactorizationModel):
        (p, b_u), (q, b_i) = model.factors(0), model.factors(1)
        # As for an id without events: no factors, and the popularity of no event.
        unseen = np.float32(model.popularity_weight) * np.log(np.float32(0.5))
        users, items = _with_unknown(p, b_u, 0.0), _with_unknown(q, b_i, unseen)
        return _Tables(users, items, 0.0, none, none, none.astype(np.float32), None)
    module, scorer = model.module, model.scorer
    # The code -1 is that of an unknown id; in the graph, it is the last row.
    users, items = (
        _as_float32(scorer.rows(side, np.append(np.arange(n), -1)))
        for side, n in enumerate(module.n_rows)
    )
    bounds = None
    if model.settings.loss == "squared_error" and model.moments[0]:
        bounds = float(model.moments[3]), float(model.moments[4])
    weight = module.array("context_weight")
    if isinstance(model, FollowingFactorizationModel):
        v = np.float32(model.mixture.fast_weight)
        weight = (1 - v) * weight + v * model.fast.array("context_weight")
    scale = module.context_scale.cpu().numpy()
    return _Tables(users, items, scorer.intercept, module.average_context(), scale, weight, bounds)


def _as_float32(rows: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    factors, biases = rows
    return factors.astype(np.float32), biases.astype(np.float32)


def _with_unknown(
    factors: np.ndarray, biases: np.ndarray, bias: float
) -> tuple[np.ndarray, np.ndarray]:
    """Append the row of an unknown id: no factors, and a bias."""
    empty = np.zeros((1, factors.shape[1]), np.float32)
    return np.concatenate([factors, empty]), np.append(biases, np.float32(bias))
