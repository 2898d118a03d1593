"""Compiled solver: epochs and online passes of stochastic gradient descent."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.models._progress import Epochs

Arrays = dict[str, np.ndarray]

# Of `fit`; rates and penalties of ratings are in units of the standard deviation of y, so
# that a model of a multiple of y is that multiple of the model. Best on MovieLens 100K and 1M.
LEARNING_RATE = {"squared_error": 0.045, "log_loss": 0.07, "bpr": 0.1}
REG = {"squared_error": 0.045, "log_loss": 0.02, "bpr": 0.1}
# The rate falls geometrically to this fraction over the epochs of `fit`.
_LAST_RATE = {"squared_error": 0.05, "log_loss": 0.05, "bpr": 0.234}
# An id's factors are held by reg x (base + root / sqrt(n)): ids of few events more tightly.
_REG_BASE, _REG_ROOT = np.float32(0.6), np.float32(8.0)
# Standard deviation of the initial factors. Ten times more costs 0.02 RMSE on MovieLens 100K.
_INIT = {"squared_error": 0.01, "log_loss": 0.01, "bpr": 0.1}
_NEW_ITEM = 0.03

# Online updates; the slots are those of kernels.online_pass. The step of a user bias has a lower
# bound, since user preferences drift.
STREAM = (8.0, 0.05, 5.0, 0.002, 0.03, 0.30, 100.0, 1.0, 0.0075, 0.02, np.inf)
_CHUNK = (8.0, 0.01, 5.0, 0.002, 0.03, 0.25, 100.0, 1.0, 0.0075, 0.02, np.inf)
# The fast copy of drift="follow": the steps of users are one and a half times as large, and as if
# none had more than 20 events. With the steps of items capped as well, their errors spoil what is
# known of items, and an abrupt turn of tastes costs twice as much.
_FAST_STREAM = (*STREAM[:5], 0.45, *STREAM[6:10], 20.0)
_FAST_CHUNK = (*_CHUNK[:5], 0.375, *_CHUNK[6:10], 20.0)
# Online updates of BPR: negatives per event, decay factor of the user vector, and rates of user,
# item and their L2. Users follow the session, and items change slowly. Updates in chunks use the
# settings of `fit` with a tenth of its rate.
_BPR_STREAM = (50, 0.75, (0.6, 0.02, 0.0, 0.05))
_BPR_CHUNK = (4, 1.0, (0.01, 0.01, 0.1, 0.1))

# Tables that the kernel of "bpr" reads and writes.
BPR_TABLES = "user_bias", "item_bias", "user_factors", "item_factors", "user_count", "item_count"

# Losses as the kernels of pointwise losses name them.
LOSS = {"squared_error": kernels.SQUARED_ERROR, "log_loss": kernels.LOG_LOSS}

# Number of rows whose negatives are drawn at once, which bounds memory; and number of rows up to
# which drawing in advance is cheaper than saving every item.
_BLOCK, FEW_ROWS = 16_384, 256


@dataclass(frozen=True)
class Rows:
    """Training rows as the kernels read them; named after the arguments of the module.

    Attributes
    ----------
    user, item : ndarray of shape (n,), int32
    target, weight : ndarray of shape (n,), float32
    context : ndarray of shape (n, n_context), float32
    """

    user: np.ndarray
    item: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    context: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray | slice) -> Rows:
        """Return some of the rows."""
        return Rows(*(column[rows] for column in self.columns().values()))

    def joined(self, later: Rows) -> Rows:
        """Concatenate with other rows."""
        pairs = zip(self.columns().values(), later.columns().values(), strict=True)
        return Rows(*(np.concatenate(pair) for pair in pairs))

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns by name."""
        return vars(self).copy()


def start_all(
    arrays: Arrays, rows: Rows, loss: str, mean: float, scale: float, rng: np.random.Generator
) -> None:
    """Count the rows of each id, set the mean, and draw the initial factors."""
    for side in ("user", "item"):
        count, factors = arrays[f"{side}_count"], arrays[f"{side}_factors"]
        count += np.bincount(getattr(rows, side), rows.weight, len(count))
        factors[:] = rng.standard_normal(factors.shape, np.float32)
        factors *= np.float32(_INIT[loss] * np.sqrt(scale))
    if loss == "squared_error":
        arrays["mean"][:] = mean
    elif loss == "log_loss":
        n = rows.weight.sum()
        share = (n * mean + 0.5) / (n + 1)
        arrays["mean"][:] = np.log(share / max(1 - share, 1e-17))


def start_items(arrays: Arrays, n_items: int, rng: np.random.Generator) -> None:
    """Draw small initial factors for items from ``n_items`` on."""
    table = arrays["item_factors"]
    if n_items < len(table):
        table[n_items:] = _NEW_ITEM * rng.standard_normal(table[n_items:].shape, np.float32)


def fit_epochs(
    arrays: Arrays,
    rows: Rows,
    *,
    loss: str,
    learning_rate: float,
    reg: float,
    epochs: Epochs | range,
    scale: float,
    n_threads: int,
    rng: np.random.Generator,
    after_epoch: Callable[[], None] | None = None,
) -> None:
    """Run epochs of lock-free SGD over all rows on ``n_threads`` threads.

    Rows are shuffled once, in memory: on MovieLens a new order every epoch is no better and
    half as fast.
    """
    order = rng.permutation(len(rows.user))
    rows = rows.take(order)
    cuts = np.linspace(0, len(order), n_threads + 1).astype(int)
    pieces = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    step = _bpr_step if loss == "bpr" else _pointwise_step
    with ThreadPoolExecutor(n_threads) as pool:
        for epoch in epochs:
            rate = learning_rate * _LAST_RATE[loss] ** (epoch / len(epochs))
            list(pool.map(step(arrays, rows, loss, rate, reg, scale, rng), pieces))
            if after_epoch is not None:
                after_epoch()


def mean_loss(arrays: Arrays, rows: Rows, loss: str) -> float:
    """Return the mean loss of rows, without penalties; "bpr": beside the item of the row before."""
    users, items, factors = arrays["user_factors"][rows.user], rows.item, arrays["item_factors"]
    score = np.einsum("nk,nk->n", users, factors[items]) + arrays["item_bias"][items]
    if loss == "bpr":
        others = np.roll(items, 1)
        score -= np.einsum("nk,nk->n", users, factors[others]) + arrays["item_bias"][others]
        values = np.logaddexp(0, -score)
    else:
        score += arrays["mean"] + arrays["user_bias"][rows.user]
        score += rows.context @ arrays["context_weight"]
        log_loss = loss == "log_loss"
        values = np.logaddexp(0, score) - rows.target * score if log_loss else rows.target - score
        values = values if log_loss else values**2
    return float(values @ rows.weight / rows.weight.sum())


def _pointwise_step(
    arrays: Arrays,
    rows: Rows,
    loss: str,
    rate: float,
    reg: float,
    scale: float,
    rng: np.random.Generator,
) -> Callable[[slice], None]:
    # In these units the fit of a multiple of y is exactly that multiple of the fit of y.
    user_reg, item_reg = (
        np.float32(reg * scale) * (_REG_BASE + _REG_ROOT / np.sqrt(np.maximum(arrays[name], 1)))
        for name in ("user_count", "item_count")
    )
    # With any penalty, a step shrinks a row at most to zero.
    user_reg, item_reg = (np.minimum(r, np.float32(scale / rate)) for r in (user_reg, item_reg))

    def work(piece: slice) -> None:
        kernels.sgd_epoch(
            *_columns(rows, piece),
            np.float32(rate / scale),
            np.float32(rate),
            user_reg,
            item_reg,
            np.float32(min(reg, 1 / rate)),
            LOSS[loss],
            *_tables(
                arrays,
                "mean",
                "user_bias",
                "item_bias",
                "user_factors",
                "item_factors",
                "context_weight",
            ),
        )

    return work


def _bpr_step(
    arrays: Arrays,
    rows: Rows,
    loss: str,
    rate: float,
    reg: float,
    scale: float,
    rng: np.random.Generator,
) -> Callable[[slice], None]:
    n_items = len(arrays["item_bias"])
    negatives = rng.integers(0, n_items, (len(rows.user), 1), dtype=np.int32)
    rates = (rate, rate, reg, reg)

    def work(piece: slice) -> None:
        _bpr(arrays, rows, piece, negatives[piece], np.empty(0, np.float32), False, 1.0, rates, 0)

    return work


def stream(
    arrays: Arrays,
    rows: Rows,
    moments: np.ndarray,
    *,
    loss: str,
    learning_rate: float,
    newest: int,
    n_items: int,
    rng: np.random.Generator,
    chunk: bool = False,
    draws: np.ndarray | None = None,
    fast: bool = False,
    raw: bool = False,
) -> np.ndarray:
    """Predict and then learn each row in one pass; return the predictions (n,).

    ``chunk``: the rows were predicted as a whole before, so they are learned in random order.
    ``n_items``: how many items were known before. ``draws``: the negatives of "bpr", where the
    caller has drawn them. ``fast``: use the steps of the fast copy. ``raw``: return scores before
    the link.
    """
    n = len(rows.user)
    scored = np.empty(n, np.float32)
    if chunk and n > 1:
        order = rng.permutation(n)
        rows = rows.take(order)
    if loss == "bpr":
        speed = learning_rate / LEARNING_RATE[loss]
        _, keep, (user_rate, item_rate, *regs) = _BPR_CHUNK if chunk else _BPR_STREAM
        rates = (speed * user_rate, speed * item_rate, *regs)
        for start in range(0, n, _BLOCK):
            piece = slice(start, min(start + _BLOCK, n))
            drawn, items = draws, rows.item[piece]
            if drawn is None:
                drawn = draw_negatives(items, n_items, rng, chunk=chunk)
                n_items = max(n_items, int(items.max()) + 1)
            _bpr(arrays, rows, piece, drawn, scored[piece], True, keep, rates, newest)
        return scored
    kernels.online_pass(
        *_columns(rows, slice(None)),
        scored,
        moments,
        pass_rates(loss, learning_rate, chunk=chunk, fast=fast),
        LOSS[loss],
        newest,
        raw,
        *_tables(
            arrays,
            "mean",
            "user_bias",
            "item_bias",
            "user_factors",
            "item_factors",
            "context_weight",
            "user_count",
            "item_count",
        ),
    )
    return scored


def pass_rates(loss: str, learning_rate: float, *, chunk: bool, fast: bool = False) -> np.ndarray:
    """Return the rates (11,), float32, of `kernels.online_pass`: see `stream`."""
    settings = (_FAST_CHUNK if fast else _CHUNK) if chunk else _FAST_STREAM if fast else STREAM
    numbers = np.array(settings, np.float32)
    numbers[4:6] *= learning_rate / LEARNING_RATE[loss]
    return numbers


def draw_negatives(
    items: np.ndarray, n_items: int, rng: np.random.Generator, *, chunk: bool
) -> np.ndarray:
    """Draw negatives (n, m) for each row, uniform over the items known at that row.

    That is ``n_items`` and whatever it and earlier rows brought.
    """
    n_draws, _, _ = _BPR_CHUNK if chunk else _BPR_STREAM
    known = np.maximum.accumulate(np.maximum(items + 1, n_items))
    draws = rng.integers(0, 2**32, (len(items), n_draws), dtype=np.uint32)
    return ((draws * known.astype(np.uint64)[:, None]) >> np.uint64(32)).astype(np.int32)


def rehearse(
    arrays: Arrays,
    rows: Rows,
    *,
    loss: str,
    learning_rate: float,
    reg: float,
    scale: float,
    rng: np.random.Generator,
) -> None:
    """Rehearse stored rows at a quarter of the learning rate, without counting them."""
    work = (_bpr_step if loss == "bpr" else _pointwise_step)(
        arrays, rows, loss, learning_rate / 4, reg, scale, rng
    )
    work(slice(None))


def _bpr(
    arrays: Arrays,
    rows: Rows,
    piece: slice,
    negatives: np.ndarray,
    scored: np.ndarray,
    counting: bool,
    keep: float,
    rates: tuple[float, ...],
    newest: int,
) -> None:
    kernels.bpr_pass(
        rows.user[piece],
        rows.item[piece],
        negatives,
        rows.weight[piece],
        scored,
        counting,
        np.float32(keep),
        np.array(rates, np.float32),
        newest,
        *_tables(arrays, *BPR_TABLES),
    )


def _columns(rows: Rows, piece: slice) -> list[np.ndarray]:
    return [column[piece] for column in rows.columns().values()]


def _tables(arrays: Arrays, *names: str) -> list[np.ndarray]:
    return [arrays[name] for name in names]
