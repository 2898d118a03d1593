"""What lists of many users cost, and what re-ranking costs and gains; prints JSON lines.

"batch" writes the top-10 lists of 100 thousand users over 100 thousand items to a Parquet file.
"candidates" makes lists from 200 candidates of each user, for 10 thousand of these users.
"rerank" re-ranks lists of 50 films on MovieLens 100K, split in time.

    python benchmarks/lists/bench_lists.py
    python benchmarks/lists/bench_lists.py --task rerank
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.common.process import in_fresh_process, peak_memory
from benchmarks.common.report import row

K = 10
N_USERS = N_ITEMS = 100_000
N_EVENTS = 2_000_000
N_CANDIDATES = 200


def fit_large():
    """Fit ALS with 64 factors to a synthetic log in which all ids occur."""
    from sklearn_recft import ALSRecommender

    rng = np.random.default_rng(0)
    users = np.r_[np.arange(N_USERS), rng.integers(0, N_USERS, N_EVENTS)]
    items = np.r_[np.arange(N_ITEMS), (N_ITEMS * rng.random(N_EVENTS) ** 2).astype(np.int64)]
    model = ALSRecommender(n_factors=64, max_epochs=1, random_state=0)
    return model.fit(np.column_stack([users, items]))


def batch(verbose):
    from sklearn_recft.lists import recommend_to_parquet

    model = fit_large()
    users = model.user_ids_
    with TemporaryDirectory() as folder:
        path = Path(folder, "lists.parquet")
        recommend_to_parquet(path, model, users[:200], n_recommendations=K)  # compiles
        before, clock = peak_memory(), perf_counter()
        n_rows = recommend_to_parquet(path, model, users, n_recommendations=K, verbose=verbose)
        seconds = perf_counter() - clock
        size = path.stat().st_size
    return {
        "rows": n_rows,
        "seconds": seconds,
        "peak_mib": peak_memory(),
        "peak_mib_before": before,
        "file_mib": size / 2**20,
    }


def candidates():
    import pandas as pd

    model, rng = fit_large(), np.random.default_rng(1)
    users = model.user_ids_[:10_000]
    table = pd.DataFrame({"user_id": np.repeat(users, N_CANDIDATES)})
    table["item_id"] = rng.choice(model.item_ids_, len(table))
    found = {}
    for name, given in (("all_items", None), ("own_candidates", table)):
        model.recommend(users[:200], candidates=given, on_missing="pad")  # compiles
        before, clock = peak_memory(), perf_counter()
        model.recommend(users, candidates=given, on_missing="pad")
        found[f"{name}_seconds"] = perf_counter() - clock
        found[f"{name}_peak_mib_more"] = peak_memory() - before
    clock = perf_counter()
    for user in users[:100]:
        mine = table[table["user_id"] == user]
        model.recommend([user], candidates=mine, on_missing="pad")
    found["one_query_ms"] = (perf_counter() - clock) * 10
    return found


def rerank():
    """Print accuracy and diversity of lists of ALS, re-ranked from their first 50 films."""
    from sklearn_recft import ALSRecommender
    from sklearn_recft.datasets import fetch_movielens
    from sklearn_recft.lists import cap_per_category, rerank_mmr
    from sklearn_recft.metrics import (
        catalogue_coverage_at_k,
        intra_list_diversity_at_k,
        item_popularity,
        ndcg_at_k,
        novelty_at_k,
    )
    from sklearn_recft.model_selection import TemporalSplit

    log = fetch_movielens("100k")
    X = log.data[log.target >= 4]
    [(train, test)] = TemporalSplit(1, test_size=0.2).split(X)
    films, texts = log.catalogue.item_id, log.catalogue.text
    genres = [text.rsplit(": ", 1)[1].split(", ") for text in texts]
    names = sorted({name for one in genres for name in one})
    vectors = np.array([[name in one for name in names] for one in genres], float)
    model = ALSRecommender(random_state=0).fit(X[train])
    users = np.unique(X[test, 0])
    relevant = [X[test, 1][X[test, 0] == user] for user in users]
    items, scores = model.recommend(users, n_recommendations=50)

    def show(name, lists, seconds=0.0):
        row(
            "rerank", "ml-100k", name, users=len(users),
            ndcg=ndcg_at_k(relevant, lists),
            diversity=intra_list_diversity_at_k((films, vectors), lists),
            coverage=catalogue_coverage_at_k(model.item_ids_, lists),
            novelty=novelty_at_k(item_popularity(X[train]), lists),
            ms_per_list=1000 * seconds / len(users),
        )  # fmt: skip

    show("ALS", items[:, :K])
    for trade_off in (0.9, 0.7, 0.5, 0.3):
        clock = perf_counter()
        lists, _ = rerank_mmr(items, scores, (films, vectors), trade_off=trade_off)
        show(f"mmr {trade_off}", lists, perf_counter() - clock)
    by_genre = (films, genres)
    for cap in (5, 4, 3, 2):
        clock = perf_counter()
        lists, _ = cap_per_category(items, scores, by_genre, max_per_category=cap)
        seconds = perf_counter() - clock
        show(f"cap {cap}", [[i for i in one if i is not None] for one in lists], seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", choices=["batch", "candidates", "rerank", "all"], default="all")
    parser.add_argument("--verbose", type=int, default=0)
    options = parser.parse_args()
    size = f"{N_USERS} users x {N_ITEMS} items"
    if options.task in ("batch", "all"):
        row("batch", size, "ALS 64 factors", **in_fresh_process(batch, options.verbose))
    if options.task in ("candidates", "all"):
        row("candidates", size, "ALS 64 factors", **in_fresh_process(candidates))
    if options.task in ("rerank", "all"):
        rerank()


if __name__ == "__main__":
    main()
