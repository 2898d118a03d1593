"""Further logs of positives: nothing of the softmax was chosen on them."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.common.events import COLUMNS, DATA, PROTOCOLS, REPEATING, load
from sklearn_recft.datasets import load_complete_journey

SEQUENCES = {"toys": "Toys_and_Games.txt", "lastfm": "LastFM.txt"}  # one user a line, in order
ASIDE = ("ml-latest-small", "groceries", *SEQUENCES)
ALL = (*DATA, *ASIDE)
REPEATS = REPEATING | {"groceries"}
_RELEVANT = 4  # rating from which a film is a positive
_SHARE, _FEWEST = 3, 10  # of the households every third; products that so many of them bought


def events_of(data: str) -> pd.DataFrame:
    """Read the events of a log, every one a positive."""
    if data == "groceries":
        return groceries()
    if data in DATA:
        return load(data)
    root = Path(os.environ.get("SKLEARN_RECFT_DATA", "."))
    if data in SEQUENCES:
        return sequences(root / "s3rec" / SEQUENCES[data])
    frame = pd.read_parquet(root / data / "interactions.parquet")
    return frame.loc[frame["rating"] >= _RELEVANT, COLUMNS].reset_index(drop=True)


def protocols_of(data: str) -> tuple[str, ...]:
    """Return the protocols that a log can have; without times, users have no common timeline."""
    return PROTOCOLS[1:] if data in SEQUENCES else PROTOCOLS


def groceries() -> pd.DataFrame:
    """Take every third household; a kind of product (type and size) in a basket is one event."""
    bunch = load_complete_journey(as_frame=True)
    titles = bunch.catalogue.set_index("item_id")["title"]
    frame = bunch.data.assign(item_id=bunch.data["item_id"].map(titles).astype(str))
    households = np.sort(frame["user_id"].unique())[::_SHARE]
    frame = frame[frame["user_id"].isin(households)].drop_duplicates(COLUMNS)
    buyers = frame.groupby("item_id")["user_id"].nunique()
    frame = frame[frame["item_id"].isin(buyers.index[buyers >= _FEWEST])]
    return frame[COLUMNS].reset_index(drop=True)


def sequences(path: Path) -> pd.DataFrame:
    """Read lines of a user and the user's items in order; the place in the line is the time."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        user, *items = map(int, line.split())
        rows += [(user, item, place) for place, item in enumerate(items)]
    return pd.DataFrame(rows, columns=COLUMNS)
