"""Factors and biases in closed form: ridge regression on the factors of the other side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from sklearn_recft import kernels
from sklearn_recft.models._factorization_sgd import Arrays, Rows

# Ridge penalties of the closed-form initialization: per event and constant, factors then bias.
_RIDGE = (0.02, 10.0, 0.02, 10.0)
# The same of `adapt`, which no learning step follows. Best on new users of MovieLens 1M.
_ADAPT_RIDGE = (0.02, 5.0, 0.02, 5.0)
_SIDES = ("user", "item")


def fold_in(
    arrays: Arrays, rows: Rows, n_users: int, n_items: int, newest: int, *, loss: str, scale: float
) -> None:
    """Initialize ids with codes from ``n_users`` and ``n_items`` on in closed form.

    New users are fitted to the items known before, then new items to all users; for the
    logistic loss to the working response ``4 (y - p)`` of Newton's method at p = 1/2.
    """
    last_of = {side: len(arrays[f"{side}_bias"]) for side in ("user", "item")}
    if (n_users, n_items) == (last_of["user"], last_of["item"]):
        return
    for side, first, last in (("user", n_users, n_items), ("item", n_items, last_of["user"])):
        ridge = _Ridge.of(arrays, rows, side, loss)
        usable = np.flatnonzero((ridge.own >= first) & (ridge.others < last))
        usable = usable[np.argsort(ridge.own[usable], kind="stable")]
        codes, counts = ridge.solve(usable, _RIDGE, scale, newest)
        # Count the events used here, so that the next steps of these ids are not too large.
        arrays[f"{side}_count"][codes] += counts


def adapt(arrays: Arrays, rows: Rows, n_items: int, *, loss: str, scale: float) -> None:
    """Solve for the users of rows given the items, then for new items given all users.

    Items from ``n_items`` on are new; the others do not change. New ids hold their initial values.
    The penalty of a user grows with the weight of the user's earlier events. The result does not
    depend on the order of the rows.
    """
    for side in ("user", "item"):
        ridge = _Ridge.of(arrays, rows, side, loss)
        order = np.lexsort((rows.weight, ridge.rest, ridge.others, ridge.own))
        known = (ridge.others < n_items) if side == "user" else (ridge.own >= n_items)
        ridge.solve(order[known[order]], _ADAPT_RIDGE, scale, -1)
        count = arrays[f"{side}_count"]
        count += np.bincount(ridge.own[known], rows.weight[known], len(count))


def fold_in_event(
    arrays: Arrays,
    codes: tuple[int, int],
    new: tuple[bool, bool],
    target: float,
    newest: int,
    *,
    loss: str,
    scale: float,
) -> None:
    """Do what `fold_in` does for one row without context, where tables may have spare rows.

    ``codes``: of the user and the item; ``new``: whether each has no row in the tables before.
    """
    for side, is_new in enumerate(new):
        if is_new and (side or not new[1]):
            _solve_event(arrays, side, codes, target, newest, loss=loss, scale=scale)


def _solve_event(
    arrays: Arrays,
    side: int,
    codes: tuple[int, int],
    target: float,
    newest: int,
    *,
    loss: str,
    scale: float,
) -> None:
    """Do what `_Ridge.solve` does for the one row of a new user (side 0) or item (1)."""
    own, other = _SIDES[side], _SIDES[1 - side]
    score = arrays["mean"] + arrays[f"{other}_bias"][codes[1 - side]]
    value = np.array([target], np.float32)
    rest = 4 * (value - expit(score)) if loss == "log_loss" else value - score
    reg_n, reg_0, bias_reg_n, bias_reg_0 = _RIDGE
    kernels.fold_in(
        np.array([0, 1]),
        np.array([0]),
        np.array([codes[side]], np.int32),
        np.array([codes[1 - side]], np.int32),
        rest,
        np.array([1.0], np.float32),
        reg_n * scale,
        reg_0 * scale,
        bias_reg_n,
        bias_reg_0,
        np.array([0.0]),
        newest,
        side == 0,
        arrays[f"{own}_bias"],
        arrays[f"{own}_factors"],
        arrays[f"{other}_factors"],
    )
    arrays[f"{own}_count"][codes[side]] += 1


@dataclass(frozen=True)
class _Ridge:
    """Ridge regression of one side's factors and biases on the factors of the other side.

    Attributes
    ----------
    arrays : dict of ndarray
    side : {"user", "item"}
    own, others : ndarray of shape (n,)
        Codes of this side, and of the other.
    rest : ndarray of shape (n,)
        What the factors and biases of this side are to explain.
    weight : ndarray of shape (n,)
    """

    arrays: Arrays
    side: str
    own: np.ndarray
    others: np.ndarray
    rest: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, arrays: Arrays, rows: Rows, side: str, loss: str) -> _Ridge:
        """Compute the residuals of rows."""
        other = "item" if side == "user" else "user"
        own, others = getattr(rows, side), getattr(rows, other)
        base = arrays["mean"] + rows.context @ arrays["context_weight"]
        score = base + arrays[f"{other}_bias"][others]
        rest = 4 * (rows.target - expit(score)) if loss == "log_loss" else rows.target - score
        return cls(arrays, side, own, others, rest, rows.weight)

    def solve(
        self, usable: np.ndarray, ridge: tuple[float, ...], scale: float, newest: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Solve for the codes of ``usable`` rows, sorted by code; return codes and counts."""
        side, other = self.side, "item" if self.side == "user" else "user"
        codes, starts, counts = np.unique(self.own[usable], return_index=True, return_counts=True)
        reg_n, reg_0, bias_reg_n, bias_reg_0 = ridge
        known = self.arrays[f"{side}_count"][codes].astype(np.float64)
        kernels.fold_in(
            np.append(starts, len(usable)),
            usable,
            codes,
            self.others,
            self.rest,
            self.weight,
            reg_n * scale,
            reg_0 * scale,
            bias_reg_n,
            bias_reg_0,
            known,
            newest,
            side == "user",
            self.arrays[f"{side}_bias"],
            self.arrays[f"{side}_factors"],
            self.arrays[f"{other}_factors"],
        )
        return codes, counts
