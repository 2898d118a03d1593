"""Load events, split them into tasks, and evaluate lists: the protocol of the leaderboard."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_recft.metrics import (
    catalogue_coverage_at_k,
    hit_rate_at_k,
    ndcg_at_k,
    recall_at_k,
)
from sklearn_recft.model_selection import LeaveLastOut, TemporalSplit

K = 10
TEST_SHARE = 0.1
COLUMNS = ["user_id", "item_id", "timestamp"]
REPEATING = {"online-retail"}  # people buy the same again: what was seen stays eligible
DATA = ("ml-100k", "ml-1m", "amazon-beauty-2014", "online-retail")
PROTOCOLS = ("timeline", "leave-last-out")


@dataclass(frozen=True)
class Task:
    """Train on ``train``, then recommend to ``queries``, whose relevant items are ``relevant``."""

    train: pd.DataFrame
    queries: np.ndarray
    relevant: list[np.ndarray]
    exclude_seen: bool


def load(data: str) -> pd.DataFrame:
    """Read the events of a data set, every one a positive, in the order of the file."""
    root = os.environ.get("SKLEARN_RECFT_DATA")
    if not root:
        raise SystemExit("Set SKLEARN_RECFT_DATA to the folder that holds the data sets.")
    frame = pd.read_parquet(Path(root, data, "interactions.parquet"))
    if data == "online-retail":
        frame = purchases(frame)
    return frame[COLUMNS].reset_index(drop=True)


def purchases(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep what a known customer bought: a product in an invoice is one event.

    Left out are returns (quantity below 1), rows without a customer, and postage, bank charges
    and manual entries, whose codes do not begin with a digit. Lines of one product in one
    invoice are one event, whatever the quantity; buying it again in another is another.
    """
    product = frame["item_id"].astype(str).str.match(r"\d")
    frame = frame[frame["user_id"].notna() & (frame["quantity"] > 0) & product]
    frame = frame.drop_duplicates(["user_id", "item_id", "invoice_no"])
    return frame.astype({"user_id": np.int64, "item_id": str})


def cut(frame: pd.DataFrame, n_items: int | None = None, every: int = 1) -> pd.DataFrame:
    """Return the events of the items with most events, and of every k-th user by id."""
    kept = pd.factorize(frame["user_id"], sort=True)[0] % every == 0
    if n_items is not None:
        kept &= frame["item_id"].isin(frame["item_id"].value_counts().index[:n_items]).to_numpy()
    return frame[kept]


def tasks(events: pd.DataFrame, protocol: str, exclude_seen: bool) -> tuple[Task, Task]:
    """Choose on the first task, report on the second; nothing tested is in either train set.

    timeline
        The last tenth of the events in time order is tested, and of what is left the last tenth
        validated, for known users. Events of one timestamp stay on one side.
    leave-last-out
        The last event of every user is tested, the one before it validated.
    """
    if protocol == "timeline":
        splitter = TemporalSplit(n_splits=1, test_size=TEST_SHARE)
    else:
        splitter = LeaveLastOut()
    past, test = _split(events, splitter)
    train, validation = _split(past, splitter)
    return _task(train, validation, exclude_seen), _task(past, test, exclude_seen)


def windows(events: pd.DataFrame, n: int, exclude_seen: bool) -> list[Task]:
    """Choose on the last n tenths of what the timeline leaves for training, each after its past.

    The last of them is the validation task of `tasks`.
    """
    past, _ = _split(events, TemporalSplit(n_splits=1, test_size=TEST_SHARE))
    splits = TemporalSplit(n_splits=n, test_size=TEST_SHARE).split(past)
    return [_task(past.iloc[before], past.iloc[tenth], exclude_seen) for before, tenth in splits]


def evaluate(task: Task, lists: list[np.ndarray]) -> dict[str, float]:
    """Score lists of raw ids; a relevant item without training events counts as a miss.

    Coverage is the share of the learned items that appear in some list.
    """
    return {
        "ndcg": ndcg_at_k(task.relevant, lists, k=K),
        "recall": recall_at_k(task.relevant, lists, k=K),
        "hit_rate": hit_rate_at_k(task.relevant, lists, k=K),
        "coverage": catalogue_coverage_at_k(task.train["item_id"].unique(), lists, k=K),
    }


def _split(events: pd.DataFrame, splitter) -> tuple[pd.DataFrame, pd.DataFrame]:
    [(train, test)] = splitter.split(events)
    return events.iloc[train], events.iloc[test]


def _task(train: pd.DataFrame, test: pd.DataFrame, exclude_seen: bool) -> Task:
    """Query the users that both sides know, in the order of their ids.

    Where seen items are left out, those taken again are not relevant: no list could hold them.
    """
    test = test[test["user_id"].isin(train["user_id"])]
    if exclude_seen:
        pairs = pd.MultiIndex.from_frame(train[["user_id", "item_id"]])
        test = test[~pd.MultiIndex.from_frame(test[["user_id", "item_id"]]).isin(pairs)]
    taken = test.groupby("user_id")["item_id"].unique()
    return Task(train, taken.index.to_numpy(), taken.tolist(), exclude_seen)
