"""Measure text encoders in ONNX Runtime against torch, and models distilled; prints JSON lines.

"speed" encodes the texts of MovieLens by all-MiniLM-L6-v2 in turns, torch and ONNX Runtime, and
compares vectors and neighbours. "auc" hides 30 % of the items of ML-100K from `fit`. They appear in
the stream with their texts, which torch or ONNX Runtime encodes. "distill" compares factorizations
of ML-100K that learned a BayesianMFRecommender, or the ratings alone. "layers" keeps two of the
six layers of the encoder, as they are or trained on vectors of the six.

    python benchmarks/onnx/bench_onnx.py --task speed
    python benchmarks/onnx/bench_onnx.py --task auc
    python benchmarks/onnx/bench_onnx.py --task distill
    python benchmarks/onnx/bench_onnx.py --task layers --limit 50000
"""

import argparse
import copy
import sys
from pathlib import Path
from time import process_time

import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.backbone import minilm_folder
from benchmarks.common.report import row
from benchmarks.decay.log import Log, load, make_model
from benchmarks.onnx.layers import layers_task
from benchmarks.onnx.students import distill_task
from sklearn_recft.compression import onnx_encoder, with_onnx_encoder
from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.text import load_encoder

SEEDS = (0, 1, 2)
HIDDEN, N_NEIGHBOURS = 0.3, 10
PRECISIONS = ("float32", "int8")


def neighbours(vectors: np.ndarray) -> np.ndarray:
    """Return the ten nearest texts of each text by cosine, sorted by place."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :N_NEIGHBOURS]


def kept(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of neighbours that are in both tables, row by row."""
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in pairs]))


def seconds(encoder, texts: list[str], turn: str, separately: bool) -> float:
    """Return the CPU time of encoding texts that are in no cache."""
    fresh = [f"{text} {turn}" for text in texts]
    start = process_time()
    encoder.encode(fresh, separately=separately)
    return process_time() - start


def encoders(backbone: str):
    """Return the encoder in torch, and those in ONNX Runtime by precision, with export times."""
    torch_encoder = load_encoder(backbone)
    found, times = {}, {}
    for precision in PRECISIONS:
        start = process_time()
        found[precision] = onnx_encoder(found.get("float32", torch_encoder), precision)
        times[precision] = process_time() - start
    return torch_encoder, found, times


def speed(texts: list[str], backbone: str, n_pairs: int, n_timed: int = 192) -> None:
    """Print ratios of CPU time to torch, and how far vectors and neighbours agree."""
    torch_encoder, others, times = encoders(backbone)
    true = torch_encoder.encode(texts)
    near = neighbours(true)
    for precision, encoder in others.items():
        vectors = encoder.encode(texts)
        cosines = (vectors * true).sum(1) / np.linalg.norm(vectors, axis=1)
        cosines /= np.linalg.norm(true, axis=1)
        ratios = {}
        for name, some, separately in (
            ("batch", texts[:n_timed], False),
            ("single", texts[:48], True),
        ):
            both = torch_encoder, encoder
            pairs = [
                tuple(seconds(one, some, f"{precision} {n}", separately) for one in both)
                for n in range(n_pairs + 1)
            ][1:]
            found = [a / b for a, b in pairs]
            ratios |= {f"times_{name}": np.median(found), f"range_{name}": [min(found), max(found)]}
        row(
            "speed",
            f"{len(texts)} texts",
            precision,
            **ratios,
            mib=len(encoder.graph) / 2**20,
            largest_difference=f"{np.abs(vectors - true).max():.2g}",
            cosine=cosines.mean(),
            neighbours_kept=kept(near, neighbours(vectors)),
            export_s=times[precision],
        )


def auc(log: Log, backbone: str, seeds: list[int]) -> None:
    """Print the AUC of the stream after `fit`, and of the rows of items that `fit` has not seen."""
    rest = slice(log.start, None)
    for seed in seeds:
        ids = log.catalogue["item_id"].to_numpy()
        hidden = np.random.default_rng(seed).choice(ids, int(HIDDEN * len(ids)), replace=False)
        cold = log.X["item_id"].isin(hidden).to_numpy()
        known = np.flatnonzero(~cold[: log.start])
        model = make_model(backbone, seed).fit(log.X.iloc[known], log.y[known])
        models = {"torch": model} | {p: with_onnx_encoder(model, p) for p in PRECISIONS}
        y, X, cold_rest = log.y[rest], log.X[rest], cold[rest]
        for name, one in models.items():
            static = one.predict_proba(X)[:, 1]
            stream = copy.deepcopy(one).partial_fit_predict_proba(X, y)
            row(
                "auc",
                log.name,
                name,
                seed=seed,
                n_cold=int(cold_rest.sum()),
                never_updated_cold=roc_auc_score(y[cold_rest], static[cold_rest]),
                stream=roc_auc_score(y, stream),
                stream_cold=roc_auc_score(y[cold_rest], stream[cold_rest]),
            )


def main(arguments: list[str] | None = None) -> None:
    """Run one task."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", choices=("speed", "auc", "distill", "layers"), required=True)
    parser.add_argument("--backbone", default="auto")
    parser.add_argument("--n-pairs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--limit", type=int, default=None, help="rows of the log")
    options = parser.parse_args(arguments)
    if options.task == "speed":
        texts = fetch_movielens("100k", as_frame=True).catalogue["text"].drop_duplicates()
        speed(texts.tolist(), options.backbone, options.n_pairs)
    elif options.task == "auc":
        auc(load("ml-100k", options.limit), options.backbone, options.seeds)
    elif options.task == "layers":
        layers_task(load("ml-100k", options.limit), minilm_folder(), options.seeds)
    else:
        distill_task(load("ml-100k", options.limit), options.seeds)


if __name__ == "__main__":
    main()
