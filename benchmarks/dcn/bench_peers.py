"""Factorization machines of other packages on ids and profile: myFM and River.

Install one of them, and name it. Prints one line of JSON for each
setting, with AUC and log-loss of the validation and of the test tenth, and CPU seconds of the fit.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.common.report import row
from benchmarks.dcn.bench_dcn import TEST, TRAIN, bare

PROFILE = ["user_id", "item_id", "gender", "age", "occupation", "decade", "hour"]


def blocks_of(X: pd.DataFrame) -> dict[str, sparse.csr_matrix]:
    """Return the columns as 0 and 1; the genres of a film share a weight of 1."""
    genres = X["genres"].str.get_dummies("|").to_numpy(float)
    found = {name: sparse.csr_matrix(pd.get_dummies(X[name].astype(str)), dtype=float)
             for name in PROFILE}  # fmt: skip
    return {**found, "genres": sparse.csr_matrix(genres / np.maximum(genres.sum(1), 1)[:, None])}


def myfm(X: pd.DataFrame, y: np.ndarray, n: int) -> Iterator[tuple[dict, np.ndarray, float]]:
    """Yield settings of a Bayesian factorization machine, its probabilities and its cost."""
    from myfm import VariationalFMClassifier

    blocks = blocks_of(X)
    table = sparse.hstack(list(blocks.values())).tocsr()
    sizes = [block.shape[1] for block in blocks.values()]
    for rank in (4, 8):
        start = time.process_time()
        model = VariationalFMClassifier(rank=rank, random_seed=0)
        model.fit(table[:n], y[:n].astype(int), n_iter=100, group_shapes=sizes)
        seconds = time.process_time() - start
        yield {"rank": rank}, model.predict_proba(table), seconds


def river(X: pd.DataFrame, y: np.ndarray, n: int) -> Iterator[tuple[dict, np.ndarray, float]]:
    """Yield settings of River's factorization machine after one pass."""
    from river import facto, optim

    rows = []
    for *cells, genres in X[[*PROFILE, "genres"]].astype(str).itertuples(index=False):
        kinds = genres.split("|")
        own = {f"{name}={cell}": 1 for name, cell in zip(PROFILE, cells, strict=True)}
        rows.append(own | {f"genre={kind}": 1 / len(kinds) for kind in kinds})
    for rate in (0.01,):
        start = time.process_time()
        sgd = {"weight_optimizer": optim.SGD(rate), "latent_optimizer": optim.SGD(rate)}
        model = facto.FMClassifier(n_factors=8, seed=0, **sgd)
        for own, like in zip(rows[:n], y[:n] > 0, strict=True):
            model.learn_one(own, bool(like))
        seconds = time.process_time() - start
        found = [model.predict_proba_one(own)[True] for own in rows[n:]]
        yield {"rate": rate}, np.array([0.5] * n + found), seconds


def main() -> None:
    """Read the options, and run one package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=["myfm", "river"])
    parser.add_argument("--data", default="ml-100k", choices=["ml-100k", "ml-1m"])
    options = parser.parse_args()
    X, y, _ = bare(options.data)
    n, cut = int(TRAIN * len(X)), int(TEST * len(X))
    for setting, found, seconds in globals()[options.package](X, y, n):
        figures: dict[str, float] = {"fit_cpu_s": seconds}
        for part, rows in (("validation", slice(n, cut)), ("test", slice(cut, None))):
            figures[f"{part}_auc"] = roc_auc_score(y[rows], found[rows])
            figures[f"{part}_log_loss"] = log_loss(y[rows], np.clip(found[rows], 1e-6, 1 - 1e-6))
        row("likes bare", options.data, options.package, **setting, **figures)


if __name__ == "__main__":
    main()
