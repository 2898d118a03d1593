"""Train the three nets on a processor and on a GPU, one JSON line per run, in ten minutes at most.

    python benchmarks/common/gpu.py --output gpu.jsonl
    python benchmarks/common/gpu.py --devices cpu --limit 20000 --epochs 1  # a small trial

The nets are those of `RealtimeTransformerRecommender`, `DecayBertRecommender` (``backbone=None``)
and `IncrementalDCNRecommender`, on the first 90 % of the ratings of MovieLens. The first two take
every rating as a positive, the third learns likes (ratings of 4 or more). NDCG@10 is over the first
later item of each user who is in both parts, seen items excluded. Each net runs in float32 and,
except for the third, which has no such option, in bfloat16 on each device. "epoch_seconds" is the
fit's time over its epochs after a warm-up fit of few events; "utilization" and "memory_mib" are the
mean and the maximum of what ``nvidia-smi`` reports each half second of a fit, None without it.
A run is skipped once its device has used its share of ``--seconds``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.params import constructor_params
from sklearn_recft import (
    DecayBertRecommender,
    IncrementalDCNRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.metrics import ndcg_at_k
from sklearn_recft.model_selection import TemporalSplit

K, TEST_SHARE, LIKED_FROM = 10, 0.1, 4
N_WARM_UP = 2_000  # events of the fit before the clock starts
MODELS = {
    "transformer": (RealtimeTransformerRecommender, {}),
    "decay": (DecayBertRecommender, {"backbone": None}),
    "dcn": (IncrementalDCNRecommender, {}),
}
LABELLED = {"dcn"}  # learns likes, and has no bfloat16
QUERY = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"]


class Watch:
    """Samples the GPU's utilization and memory inside a with-block."""

    def __init__(self, device: str) -> None:
        self.samples: list[tuple[float, float]] = []
        self.is_on = device != "cpu" and shutil.which("nvidia-smi") is not None
        self._stop = threading.Event()

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._sample, daemon=True)
        if self.is_on:
            self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        if self.is_on:
            self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.5):
            found = subprocess.run(QUERY, capture_output=True, text=True, check=True, timeout=10)
            self.samples.append(read_sample(found.stdout))

    def figures(self) -> dict[str, float | None]:
        """Return the mean utilization in percent, and the largest memory in MiB."""
        if not self.samples:
            return {"utilization": None, "memory_mib": None}
        busy, memory = np.array(self.samples).T
        return {"utilization": round(float(busy.mean()), 1), "memory_mib": float(memory.max())}


def read_sample(text: str) -> tuple[float, float]:
    """Read utilization and memory of the first GPU from a line of ``nvidia-smi``."""
    busy, memory = text.splitlines()[0].split(",")
    return float(busy), float(memory)


def split(data: str, limit: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the training events, and the first later event of each of their users."""
    events = pd.read_parquet(Path(os.environ["SKLEARN_RECFT_DATA"], data, "interactions.parquet"))
    events = events.sort_values("timestamp", kind="stable", ignore_index=True)[:limit]
    [(learned, later)] = TemporalSplit(n_splits=1, test_size=TEST_SHARE).split(events)
    train, later = events.iloc[learned], events.iloc[later]
    later = later[later["user_id"].isin(train["user_id"].unique())]
    return train, later.drop_duplicates("user_id")


def run(
    name: str, device: str, bf16: bool, train: pd.DataFrame, later: pd.DataFrame, epochs: int
) -> dict[str, Any]:
    """Fit a net, and return its figures."""
    kind, changed = MODELS[name]
    setting = {
        **changed, "random_state": 0, "max_epochs": epochs, "net_params": {"device": device},
        **({"training": {"bf16": True}} if bf16 else {}),
    }  # fmt: skip
    X = train[["user_id", "item_id", "timestamp"]]
    y = (train["rating"] >= LIKED_FROM).to_numpy(int) if name in LABELLED else None
    warm_up = kind(**constructor_params({**setting, "max_epochs": 1}))
    warm_up.fit(X[-N_WARM_UP:], None if y is None else y[-N_WARM_UP:])
    model = kind(**constructor_params(setting))
    with Watch(device) as watch:
        start = time.perf_counter()
        model.fit(X, y)
        _wait(device)
        seconds = time.perf_counter() - start
    start = time.perf_counter()
    lists, _ = model.recommend(later[["user_id", "timestamp"]], n_recommendations=K)
    return {
        "model": name, "device": device, "bf16": bf16, "epochs": epochs, "n_events": len(train),
        "epoch_seconds": round(seconds / epochs, 3),
        "events_per_second": round(len(train) * epochs / seconds),
        "ndcg": round(float(ndcg_at_k(later["item_id"].to_numpy()[:, None], lists, k=K)), 4),
        "n_users": len(later), "list_seconds": round(time.perf_counter() - start, 3),
        **watch.figures(),
    }  # fmt: skip


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def describe(device: str) -> str:
    """Return the name of a device."""
    return "cpu" if device == "cpu" else torch.cuda.get_device_name(device)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]
    parser.add_argument("--devices", nargs="+", default=default)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--data", choices=("ml-100k", "ml-1m"), default="ml-1m")
    parser.add_argument("--limit", type=int, help="first events of the time line alone")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=540.0, help="of all runs together")
    parser.add_argument("--output", type=Path, help="a file that also gets the lines")
    options = parser.parse_args(argv)
    train, later = split(options.data, options.limit)
    share = options.seconds / len(options.devices)
    for device in options.devices:
        start = time.perf_counter()
        for name in options.models:
            for bf16 in (False,) if name in LABELLED else (False, True):
                if time.perf_counter() - start > share:
                    figures = {"model": name, "device": device, "bf16": bf16, "skipped": True}
                else:
                    figures = run(name, device, bf16, train, later, options.epochs)
                _write({"hardware": describe(device), **figures}, options.output)


def _write(figures: dict[str, Any], output: Path | None) -> None:
    line = json.dumps(figures)
    print(line, flush=True)
    if output is not None:
        with output.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
