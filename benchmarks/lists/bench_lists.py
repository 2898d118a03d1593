"""What lists of many users cost, and what re-ranking costs and gains; prints JSON lines.

"batch" writes the top-10 lists of 100 thousand users over 100 thousand items to a Parquet file.
"candidates" makes lists from 200 candidates of each user, for 10 thousand of these users.
"rerank" re-ranks lists of 50 films on MovieLens 100K, split in time.
"single" asks for lists of single users from a million items: from all scores, by the scan of int8,
and from an approximate search (needs the extra ``ann``).
"partitions" writes lists of partitions of users to Parquet files, by two processes of Dask.

    python benchmarks/lists/bench_lists.py
    python benchmarks/lists/bench_lists.py --task rerank
    python benchmarks/lists/bench_lists.py --task single --factors 64 --items trained
    python benchmarks/lists/bench_lists.py --task partitions --sizes 1000 2000 4000
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.common.process import in_fresh_process, peak_memory
from benchmarks.common.report import row

K = 10
N_USERS = N_ITEMS = 100_000
N_EVENTS = 2_000_000
N_CANDIDATES = 200
TASKS = ["batch", "candidates", "rerank", "single", "partitions", "all"]


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


def fit_million(n_factors, kind, n_items=1_000_000):
    """Fit a factorization to a log with a million items, and set its factors.

    "random" is normal numbers. "trained" is rows of a model of MovieLens 1M, drawn with
    replacement, with noise of .3 of the standard deviation of each factor.
    """
    from sklearn_recft import IncrementalMFRecommender
    from sklearn_recft.datasets import fetch_movielens

    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(4000, size=n_items), rng.permutation(n_items)])
    model = IncrementalMFRecommender(n_factors=n_factors, max_epochs=1, random_state=0)
    model.fit(X, rng.integers(1, 6, n_items))
    p, q, bias = (rng.normal(size=s) for s in ((4000, n_factors), (n_items, n_factors), n_items))
    if kind == "trained":
        log = fetch_movielens("1m")
        small = IncrementalMFRecommender(n_factors=n_factors, random_state=0)
        small.fit(log.data, log.target)
        p, (films, b) = small.user_factors_[:4000], small.__recommender_model__().factors(1)
        drawn = rng.integers(len(films), size=n_items)
        q = films[drawn] + 0.3 * films.std(axis=0) * q
        bias = b[drawn] + 0.3 * b.std() * bias
    arrays = model.__recommender_model__().module.arrays()
    arrays["user_factors"][: len(p)], arrays["item_factors"][:], arrays["item_bias"][:] = p, q, bias
    return model


def single(n_factors, kind, n_threads, repeats=40):
    """Time lists of single users, one way after the other, and count what they find."""
    from sklearn_recft import ranking
    from sklearn_recft.lists import ApproximateLists

    model = fit_million(n_factors, kind).set_params(n_jobs=n_threads)
    users = model.user_ids_[np.random.default_rng(1).permutation(4000)[:repeats]]
    scanned = ranking._SCANNED

    def all_scores(user):
        ranking._SCANNED = 2**62
        try:
            return model.recommend([user])
        finally:
            ranking._SCANNED = scanned

    ways = {"all scores": all_scores, "int8 scan": lambda user: model.recommend([user])}
    if find_spec("faiss"):
        for n_probe in (16, 32, 64, 128):
            lists = ApproximateLists(model, n_probe)
            ways[f"n_probe={n_probe}"] = lambda user, lists=lists: lists.recommend([user])
    for way in ways.values():
        start = process_time()
        for user in users[:12].tolist():  # compiles, and builds what is built once
            way(user)
        print(f"first: {process_time() - start:.1f} s", file=sys.stderr)
    wall, cpu, hits, same = ({name: [] for name in ways} for _ in range(4))
    for user in users.tolist():
        for name, way in ways.items():
            start = perf_counter(), process_time()
            items, scores = way(user)
            wall[name].append(1000 * (perf_counter() - start[0]))
            cpu[name].append(1000 * (process_time() - start[1]))
            if name == "all scores":
                exact = items[0], scores[0]
            hits[name].append(len(np.intersect1d(items[0], exact[0])) / K)
            same[name].append(np.array_equal(items[0], exact[0]) and (scores[0] == exact[1]).all())
    return {
        name: {
            "wall_ms": np.median(wall[name]),
            "cpu_ms": np.median(cpu[name]),
            "cpu_quartiles_ms": np.quantile(cpu[name], [0.25, 0.75]),
            "times_faster": np.median(cpu["all scores"]) / np.median(cpu[name]),
            "times_faster_wall": np.median(wall["all scores"]) / np.median(wall[name]),
            "recall": np.mean(hits[name]),
            "equal_lists": np.mean(same[name]),
        }
        for name in ways
    }


def write_partition(model_path, path, users):
    """Write the lists of some users to a file; return CPU seconds and rows."""
    from sklearn_recft import load
    from sklearn_recft.lists import recommend_to_parquet

    model = load(model_path, mmap=True)
    recommend_to_parquet(f"{path}.first", model, users[:64])  # compiles
    start = process_time()
    return recommend_to_parquet(path, model, users), process_time() - start


def partitions(sizes, n_parts=4):
    from dask.distributed import Client, LocalCluster

    model = fit_million(64, "random")
    with TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder / "model")
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            for n in sizes:
                parts = np.array_split(np.asarray(model.user_ids_[:n]), n_parts)
                paths = [folder / f"{n}_{j}.parquet" for j in range(n_parts)]
                start = perf_counter()
                calls = client.map(write_partition, [folder / "model"] * n_parts, paths, parts)
                found = client.gather(calls)
                seconds = perf_counter() - start
                yield {
                    "n_users": n,
                    "rows": sum(rows for rows, _ in found),
                    "seconds": seconds,
                    "cpu_seconds": sum(cpu for _, cpu in found),
                    "cpu_ms_a_user": 1000 * sum(cpu for _, cpu in found) / n,
                }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", choices=TASKS, default="all")
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--items", choices=["trained", "random"], default="trained")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--verbose", type=int, default=0)
    options = parser.parse_args()
    size = f"{N_USERS} users x {N_ITEMS} items"
    if options.task in ("batch", "all"):
        row("batch", size, "ALS 64 factors", **in_fresh_process(batch, options.verbose))
    if options.task in ("candidates", "all"):
        row("candidates", size, "ALS 64 factors", **in_fresh_process(candidates))
    if options.task in ("rerank", "all"):
        rerank()
    if options.task in ("single", "all"):
        found = in_fresh_process(single, options.factors, options.items, options.threads)
        for name, figures in found.items():
            row("single", f"{options.items}, {options.factors} factors", name, **figures)
    if options.task == "partitions":
        for figures in partitions(options.sizes):
            row("partitions", "1000000 items", "MF 64 factors", **figures)


if __name__ == "__main__":
    main()
