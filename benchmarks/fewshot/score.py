"""Metrics of each user (or new item), and paired intervals of differences."""

import numpy as np
import pandas as pd

Z90 = 1.6449  # half the width of a 90 % interval of the normal distribution
N_BEST = 5  # MetaRec: so many of the query items are relevant


def metrics(
    y: np.ndarray,
    answer: tuple[np.ndarray, np.ndarray | None],
    owner: np.ndarray,
    names: tuple[str, ...],
) -> pd.DataFrame:
    """Return one row for each owner.

    Parameters
    ----------
    y : ndarray of shape (n,)
    answer : pair
        Predictions, and their standard deviations or None.
    owner : ndarray of shape (n,)
    names : tuple of str
        "best" is nDCG@5 with the five best-rated items relevant; among ties each is as likely.
        "ndcg@k" has gains 2^rating - 1. "ndcg@k/m" ranks the first m rows of the owner only.

    Returns
    -------
    DataFrame
        Columns ``owner``, ``n`` (rows), ``se`` and ``ae`` (sums of squared and absolute errors),
        ``covered`` (rows inside the 90 % interval) and the names.
    """
    order = np.argsort(owner, kind="stable")
    predicted, std = answer
    y, predicted, owner = y[order], predicted[order], owner[order]
    users, start = np.unique(owner, return_index=True)
    error = predicted - y
    found = {
        "owner": users,
        "n": np.diff(np.r_[start, len(y)]),
        "se": np.add.reduceat(error**2, start),
        "ae": np.add.reduceat(np.abs(error), start),
    }
    inside = np.full(len(y), np.nan) if std is None else np.abs(error) <= Z90 * std[order]
    found["covered"] = np.add.reduceat(inside.astype(float), start)
    groups = list(zip(np.split(y, start[1:]), np.split(predicted, start[1:]), strict=True))
    for name in names:
        if name == "best":
            found[name] = [best_of(*group) for group in groups]
        else:
            k, _, m = name.removeprefix("ndcg@").partition("/")
            m = int(m) if m else None
            found[name] = [graded(one[:m], its[:m], int(k)) for one, its in groups]
    return pd.DataFrame(found)


def best_of(y: np.ndarray, predicted: np.ndarray, k: int = N_BEST) -> float:
    """Return the expected nDCG@k if the k best-rated are relevant, ties broken at random."""
    k = min(k, len(y))
    bound = np.sort(y)[-k]
    above, tied = y > bound, y == bound
    relevance = above + tied * (k - above.sum()) / tied.sum()
    discount = 1 / np.log2(np.arange(k) + 2)
    top = np.argsort(-predicted, kind="stable")[:k]
    return float(relevance[top] @ discount / discount.sum())


def graded(y: np.ndarray, predicted: np.ndarray, k: int) -> float:
    """Return nDCG@k with gains 2^rating - 1."""
    k = min(k, len(y))
    gain, discount = 2.0**y - 1, 1 / np.log2(np.arange(k) + 2)
    top = np.argsort(-predicted, kind="stable")[:k]
    return float(gain[top] @ discount / (np.sort(gain)[::-1][:k] @ discount))


def summary(found: pd.DataFrame) -> dict[str, float]:
    """Return RMSE and MAE over rows, MSE by user, and the means of the other metrics."""
    values = {
        "rmse": float(np.sqrt(found["se"].sum() / found["n"].sum())),
        "mae": float(found["ae"].sum() / found["n"].sum()),
        "user_mse": float((found["se"] / found["n"]).mean()),
        "user_mae": float((found["ae"] / found["n"]).mean()),
    }
    if found["covered"].notna().all():
        values["covered"] = float(found["covered"].sum() / found["n"].sum())
    others = found.columns.difference(["owner", "n", "se", "ae", "covered", "seed"])
    return values | {name: float(found[name].mean()) for name in others}


def paired(found: pd.DataFrame, other: pd.DataFrame, name: str) -> list[float]:
    """Return the mean difference to another model and its 95 % interval.

    ``name`` is a metric, or "mse". The owners of all seeds are compared one by one; what one owner
    has in several seeds is one draw.
    """
    if not found[["seed", "owner"]].equals(other[["seed", "owner"]]):
        raise ValueError("The two models were tested on different users.")
    columns = [
        frame["se"] / frame["n"] if name == "mse" else frame[name] for frame in (found, other)
    ]
    difference = (columns[0] - columns[1]).to_numpy()
    mean = difference.mean()
    sums = pd.Series(difference - mean).groupby(found["owner"].to_numpy()).sum().to_numpy()
    half = 1.96 * np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)) / len(difference)
    return [float(mean), float(mean - half), float(mean + half)]
