"""Knowledge graphs of the data sets: tables of edges from the columns of their items."""

import os
import re
from pathlib import Path

import pandas as pd

WORD = re.compile(r"[a-z]{3,}")
COLUMNS = ["item_id", "relation", "entity"]


def edges(data: str) -> pd.DataFrame:
    """Return the edges of a data set: item_id, relation, entity.

    ml-1m
        Genres, the director, the actors, and words of the title.
    ml-100k
        Genres and words of the title.
    amazon-beauty-2014, online-retail
        Words of the title, and its first word: on Amazon Beauty it is often the brand.
    """
    items = pd.read_parquet(Path(os.environ["SKLEARN_RECFT_DATA"], data, "items.parquet"))
    items["item_id"] = items["item_id"].astype(str if data == "online-retail" else "int64")
    title = items["title"].fillna("").str.lower().str.replace(r"\(\d{4}\)", "", regex=True)
    parts = {"word": title.map(lambda text: WORD.findall(text))}
    if data == "ml-1m":
        parts["genre"] = items["genres"].str.split("|")
        parts["director"] = items["director"].str.split(", ")
        parts["actor"] = items["actors"].str.split(", ")
    elif data == "ml-100k":
        parts["genre"] = items["genres"].str.split()
    else:
        parts["first word"] = parts["word"].str[:1]
    tables = [
        pd.DataFrame({"item_id": items["item_id"], "relation": name, "entity": lists})
        for name, lists in parts.items()
    ]
    table = pd.concat(tables).explode("entity").dropna().drop_duplicates()
    return table[COLUMNS].reset_index(drop=True)
