"""Train one model in a process of its own, then recommend with the weights of every epoch.

    python -m benchmarks.realtime.curve_worker FOLDER

The folder holds `job.json` and `log.npz`: training events, the validation event of each user (the
newest event that a test query knows, never trained on) and the time of each user's test query. The
test items are not in there. The worker prints lines of JSON. Before the line of an epoch it writes
`<epoch>.npz`: lists of item codes, best first, -1 where a library has no more items.

Weights are copied at the end of an epoch, while the clock stands still. They are evaluated after
training, so that queries draw no random number in between and change no training.
"""

import contextlib
import copy
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

COLUMNS = ["user_id", "item_id", "timestamp"]
PARTS = ("validation", "test")
WARM_UP = 50  # users
Query = Callable[[Any, str], np.ndarray]  # weights and a part in, item codes out: (n_users, k)


@dataclass(frozen=True)
class Log:
    """Events as codes, in time order; one row for each user that is queried."""

    learned: pd.DataFrame  # user_id, item_id, timestamp
    next_one: pd.DataFrame  # likewise: the validation event of each user, in order of the users
    test_time: np.ndarray  # seconds, in the same order

    @classmethod
    def read(cls, folder: Path) -> "Log":
        with np.load(folder / "log.npz") as saved:
            learned, next_one = (
                pd.DataFrame(saved[name], columns=COLUMNS) for name in ("learned", "next_one")
            )
            return cls(learned, next_one, saved["test_time"])

    def write(self, folder: Path) -> None:
        np.savez(
            folder / "log.npz", learned=self.learned[COLUMNS].to_numpy(np.int64),
            next_one=self.next_one[COLUMNS].to_numpy(np.int64), test_time=self.test_time,
        )  # fmt: skip

    def few(self, n_users: int) -> "Log":
        """Keep the first ``n_users`` of the users."""
        keep = np.arange(len(self.test_time)) < n_users
        next_one = self.next_one[keep]
        learned = self.learned[self.learned["user_id"].isin(next_one["user_id"])]
        return Log(learned, next_one, self.test_time[keep])

    def queries(self, part: str) -> pd.DataFrame:
        """Return the users and the times of their queries: those of the events to predict."""
        queried = self.next_one[["user_id", "timestamp"]]
        return queried if part == "validation" else queried.assign(timestamp=self.test_time)


class Clock:
    """Seconds of training alone, and the weights at the end of every epoch."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now, self.made, self.seconds = now, now(), 0.0
        self.prepared, self.n_weights = 0.0, 0
        self.laps: list[tuple[float, dict[str, Any]]] = []

    def start(self) -> None:
        """Begin with the first batch; what went before is preparation."""
        self.begun = self.now()
        self.prepared = self.begun - self.made

    def lap(self, module: Any) -> None:
        """Stand still while the weights are copied."""
        self.seconds += self.now() - self.begun
        weights = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.laps.append((self.seconds, weights))
        self.n_weights = sum(weight.numel() for weight in module.parameters())
        print(f"epoch {len(self.laps)}: {self.seconds:.1f} s", file=sys.stderr, flush=True)
        self.begun = self.now()


# ------------------------------------------------------------------------------ libraries


def ours(log: Log, job: dict[str, Any], clock: Clock) -> Query:
    from skorch.callbacks import Callback

    from benchmarks.common.params import constructor_params, merged
    from sklearn_recft import RealtimeTransformerRecommender

    class Curve(Callback):
        def on_train_begin(self, net: Any, *_: Any, **__: Any) -> None:
            clock.start()

        def on_epoch_end(self, net: Any, *_: Any, **__: Any) -> None:
            clock.lap(net.module_)

    given = {"n_jobs": job["threads"], "random_state": job["seed"]}
    given["net_params"] = {"callbacks": [("curve", Curve())]}
    model = RealtimeTransformerRecommender(**constructor_params(merged(job["setting"], given)))
    known = COLUMNS if job["timed"] else COLUMNS[:2]  # the order of the rows is known in any case
    model.fit(log.learned[known])

    def query(weights: Any, part: str) -> np.ndarray:
        queried = copy.deepcopy(model)
        queried.module_.load_state_dict(weights)
        # The model keeps the item vectors of the fit; compute those of these weights.
        queried._model.network.catalogue = queried.module_.catalogue()
        if part == "test":
            queried.observe(log.next_one[known])
        queries = log.queries(part).filter(known)
        return queried.recommend(queries, n_recommendations=job["k"])[0]

    return query


def rectools(log: Log, job: dict[str, Any], clock: Clock) -> Query:
    import pytorch_lightning as lightning
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    class Curve(lightning.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            clock.start()

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            clock.lap(module.torch_model)

    setting = dict(job["setting"])
    epochs = setting.pop("epochs")

    def trainer() -> Any:
        return lightning.Trainer(
            max_epochs=epochs, min_epochs=epochs, accelerator="cpu", devices=1, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[Curve()],
        )  # fmt: skip

    def dataset(events: pd.DataFrame) -> Any:
        when = pd.to_datetime(events["timestamp"], unit="s")
        return Dataset.construct(events.assign(weight=1.0, datetime=when).drop(columns="timestamp"))

    lightning.seed_everything(job["seed"])
    learned = dataset(log.learned)
    model = SASRecModel(**setting, recommend_torch_device="cpu", get_trainer_func=trainer)
    model.fit(learned)
    known = {"validation": learned, "test": dataset(pd.concat([log.learned, log.next_one]))}
    users = log.next_one["user_id"].to_numpy()

    def query(weights: Any, part: str) -> np.ndarray:
        model.torch_model.load_state_dict(weights)
        # A user without any of the known items gets no list.
        table = model.recommend(
            users, known[part], job["k"], filter_viewed=True, on_unsupported_targets="ignore"
        )
        found = np.full((len(users), job["k"]), -1)
        row = pd.Series(np.arange(len(users)), users)[table["user_id"]].to_numpy()
        found[row, table["rank"].to_numpy() - 1] = table["item_id"]
        return found

    return query


LIBRARIES = {"sklearn-recft": ours, "rectools": rectools}


# ------------------------------------------------------------------------------ the process


def run(job: dict[str, Any], log: Log, folder: Path) -> Iterator[dict[str, Any]]:
    """Warm up, train, then yield what it cost and the lists of each epoch."""
    train = LIBRARIES[job["library"]]
    # Imports, compilation and thread pools are off the clock.
    train(log.few(WARM_UP), job | {"setting": job["setting"] | job["brief"]}, Clock())
    clock = Clock()
    query = train(log, job, clock)
    yield {
        "version": version(job["library"]), "torch": version("torch"),
        "python": sys.version.split()[0], "prepare_s": round(clock.prepared, 3),
        "n_weights": clock.n_weights,
    }  # fmt: skip
    for epoch, (seconds, weights) in enumerate(clock.laps, 1):
        np.savez(folder / f"{epoch}.npz", **{part: query(weights, part) for part in PARTS})
        yield {"epoch": epoch, "train_seconds": round(seconds, 3)}


def version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "source tree"


def main(folder: Path) -> int:
    """Answer line by line; 1 if the library failed."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    answers = sys.stdout
    torch.set_num_threads(job["threads"])
    try:
        # What libraries print is no answer.
        with contextlib.redirect_stdout(sys.stderr):
            for line in run(job, Log.read(folder), folder):
                print(json.dumps(line), file=answers, flush=True)
    except Exception as error:  # a library's failure is a line of the table
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"[:300]}), file=answers)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
