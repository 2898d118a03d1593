"""Search words made of the title of the item that was taken: in part incomplete or mistyped."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

SHARE = 0.3  # of the rows that have a query
DROPPED = 0.5  # of the queries lack words, each word with probability 1/2
MISTYPED = 0.3  # of the queries have one wrong letter
_MOST_WORDS = 4  # of a query: titles of goods are longer than what people type
_FILLERS = {"the", "a", "an", "of", "and", "in", "for", "with", "to"}


def with_queries(events: pd.DataFrame, titles: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the events with a column ``query``, None in the rows without one.

    A row has a query with probability `SHARE`, whatever its item. Its words are those of the title
    of the row's own item: without the year, without fillers, at most `_MOST_WORDS` neighboring
    ones. Half of the queries lack words, and 30 % are mistyped.
    """
    rng = np.random.default_rng(seed)
    known = dict(zip(titles["item_id"], titles["text"], strict=True))
    asks = rng.random(len(events)) < SHARE
    queries = np.full(len(events), None, object)
    items = events["item_id"].to_numpy()
    for row in np.flatnonzero(asks):
        queries[row] = make_query(str(known.get(items[row], "")), rng) or None
    return events.assign(query=queries)


def make_query(title: str, rng: np.random.Generator) -> str:
    """Return search words for a title."""
    plain = re.sub(r"\(\d{4}\)", " ", title).lower()
    words = [word for word in re.findall(r"[^\W_]+", plain) if word not in _FILLERS]
    if len(words) > _MOST_WORDS:
        first = int(rng.integers(len(words) - _MOST_WORDS + 1))
        words = words[first : first + _MOST_WORDS]
    if len(words) > 1 and rng.random() < DROPPED:
        kept = rng.random(len(words)) < 0.5
        kept[rng.integers(len(words))] = True
        words = [word for word, stays in zip(words, kept, strict=True) if stays]
    if words and rng.random() < MISTYPED:
        place = int(rng.integers(len(words)))
        words[place] = mistyped(words[place], rng)
    return " ".join(words)


def mistyped(word: str, rng: np.random.Generator) -> str:
    """Swap two neighboring letters of a word, or drop one."""
    if len(word) < 3:
        return word
    place = int(rng.integers(len(word) - 1))
    if rng.random() < 0.5:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + word[place + 1 :]


def titles_of(data: str) -> pd.DataFrame:
    """Read item_id and text, the title, of all items of a data set."""
    path = Path(os.environ["SKLEARN_RECFT_DATA"], data, "items.parquet")
    titles = pd.read_parquet(path, columns=["item_id", "title"])
    return titles.rename(columns={"title": "text"}).fillna({"text": ""})
