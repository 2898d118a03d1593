"""Search words beside the user: what the query term is worth to the two attention models.

    python benchmarks/query/bench_query.py --data ml-1m
    python benchmarks/query/bench_query.py --data amazon-beauty-2014
    python benchmarks/query/bench_query.py --task latency

Every event is a positive; the newest `--limit` events are used. 30 % of the rows have search words,
made of the title of the row's own item (`queries.py`). A model is fitted to the first 90 % in time.
The rest is walked through in 20 pieces: first a sample of its rows with search words is queried, at
the time of the row and without items that were seen, then the piece is observed. Only rows whose
item is in the catalogue, which is that of the fit, are queried. NDCG@10 has one relevant item.

Rows of the result, a JSON line for each seed: each model without and with the words of the row, and
with weights that were learned for a part of the query term alone, "meaning" or "lexical";
the encoder alone (cosine of the words and the titles); tf-idf of the words and the titles, by words
and by letters; and the first 100 items of each model without the words, sorted by tf-idf.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.backbone import minilm_folder
from benchmarks.common.events import K, load
from benchmarks.query.queries import titles_of, with_queries
from sklearn_recft import DecayBertRecommender, RealtimeTransformerRecommender
from sklearn_recft.models._query_term import QueryTerm
from sklearn_recft.text import LexicalIndex, load_encoder

TEST_SHARE, N_PIECES, DEPTH = 0.1, 20, 100
MODELS = ("transformer", "decay")
ANALYZERS = {
    "words": {"analyzer": "word"},
    "letters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}
PARTS = {"meaning": [0], "lexical": [1, 2]}  # of the query term


def make_model(name: str, seed: int, epochs: int) -> Any:
    if name == "decay":
        return DecayBertRecommender(backbone=minilm_folder(), random_state=seed)
    return RealtimeTransformerRecommender(
        backbone=minilm_folder(), n_negatives=512, max_epochs=epochs, random_state=seed
    )


def read(data: str, limit: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the newest events in the order of time, with texts and search words, and titles."""
    events = load(data).sort_values("timestamp", kind="stable").tail(limit).reset_index(drop=True)
    titles = titles_of(data)
    events = events.merge(titles, on="item_id", how="left").fillna({"text": ""})
    return with_queries(events, titles, seed), titles


class Lists:
    """NDCG@10 of the rows that were queried, by the name of what ranked them."""

    def __init__(self) -> None:
        self.gains: dict[str, list[float]] = {}

    def add(self, name: str, lists: np.ndarray, own: np.ndarray) -> None:
        """Add lists (n, k) of rows whose items are ``own`` (n,)."""
        row, place = np.nonzero(lists[:, :K] == own[:, None])
        gains = np.zeros(len(own))
        gains[row] = 1 / np.log2(place + 2)
        self.gains.setdefault(name, []).extend(gains.tolist())

    def means(self) -> dict[str, float]:
        return {name: round(float(np.mean(gains)), 4) for name, gains in self.gains.items()}


class Texts:
    """Similarities of search words to the titles of the catalogue, without a user."""

    def __init__(self, item_ids: np.ndarray, titles: list[str], popularity: np.ndarray) -> None:
        self.item_ids = item_ids
        self.tie = 1e-6 * popularity / popularity.max()
        self.found = {}
        for name, options in ANALYZERS.items():
            vectorizer = TfidfVectorizer(**options).fit(titles)
            self.found[name] = vectorizer, vectorizer.transform(titles)
        self.encoder = load_encoder(minilm_folder())
        self.vectors = _unit(self.encoder.encode(titles))

    def similarities(self, words: list[str]) -> dict[str, np.ndarray]:
        """Return the similarity (n, n_items) by each method."""
        found = {
            f"tf-idf of {name}": (vectorizer.transform(words) @ titles.T).toarray()
            for name, (vectorizer, titles) in self.found.items()
        }
        found["encoder alone"] = _unit(self.encoder.encode(words, separately=True)) @ self.vectors.T
        return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@contextmanager
def evidence_of() -> Iterator[list]:
    """Collect the rows that the weights are learned from in the block."""
    learn, found = QueryTerm.after, []

    def after(term: QueryTerm, evidence: list) -> QueryTerm:
        found.extend(evidence)
        return learn(term, evidence)

    QueryTerm.after = after  # type: ignore[method-assign]
    try:
        yield found
    finally:
        QueryTerm.after = learn  # type: ignore[method-assign]


def term_of(evidence: list, places: list[int]) -> QueryTerm:
    """Learn a query term that has some of the similarities only, from the same rows."""
    kept = np.isin(np.arange(3), places)
    term = QueryTerm().after([replace(e, similarity=e.similarity * kept) for e in evidence])
    term.mean[:-1] *= kept
    return term


def walk(
    model: Any, test: pd.DataFrame, asked: np.ndarray, texts: Texts, seen: dict, terms: dict
) -> Lists:
    """Query and observe the test rows piece by piece."""
    learned = model._model.query_term
    lists, code = Lists(), {item: place for place, item in enumerate(texts.item_ids.tolist())}
    for piece in np.array_split(np.arange(len(test)), N_PIECES):
        rows = test.iloc[piece[np.isin(piece, asked)]]
        own, queries = rows["item_id"].to_numpy(), rows[["user_id", "timestamp", "query"]]
        if len(rows):
            plain, _ = model.recommend(
                queries.drop(columns="query"), n_recommendations=DEPTH, candidates=texts.item_ids
            )
            lists.add("without words", plain, own)
            found, _ = model.recommend(queries, n_recommendations=K, candidates=texts.item_ids)
            lists.add("with words", found, own)
            for name, term in terms.items():
                model._model.query_term = term
                found, _ = model.recommend(queries, n_recommendations=K, candidates=texts.item_ids)
                lists.add(f"with words, {name} alone", found, own)
            model._model.query_term = learned
            for name, similarity in texts.similarities(rows["query"].tolist()).items():
                for row, user in enumerate(rows["user_id"]):
                    similarity[row, list(seen.get(user, ()))] = -np.inf
                best = np.argsort(-(similarity + texts.tie), axis=1)[:, :K]
                lists.add(name, texts.item_ids[best], own)
                places = np.vectorize(code.get)(plain)
                order = np.argsort(-np.take_along_axis(similarity, places, 1), 1, kind="stable")
                lists.add(f"list sorted by {name}", np.take_along_axis(plain, order, 1), own)
        model.observe(test.iloc[piece].drop(columns="query"))
        for user, item in zip(
            test["user_id"].iloc[piece], test["item_id"].iloc[piece], strict=True
        ):
            if item in code:
                seen.setdefault(user, set()).add(code[item])
    return lists


def compare(data: str, options: argparse.Namespace) -> None:
    for seed in options.seeds:
        events, titles = read(data, options.limit, seed)
        cut = int((1 - TEST_SHARE) * len(events))
        train, test = events[:cut], events[cut:].reset_index(drop=True)
        item_ids, counts = np.unique(train["item_id"], return_counts=True)
        text = titles.set_index("item_id")["text"].reindex(item_ids).fillna("").tolist()
        texts = Texts(item_ids, [str(value) for value in text], counts)
        there = test["query"].notna() & test["item_id"].isin(item_ids)
        asked = np.flatnonzero(there)
        rng = np.random.default_rng(seed)
        asked = np.sort(rng.choice(asked, min(options.n_queries, len(asked)), replace=False))
        code = {item: place for place, item in enumerate(item_ids.tolist())}
        for name in options.models:
            seen: dict[Any, set[int]] = {}
            for user, item in zip(train["user_id"], train["item_id"], strict=True):
                seen.setdefault(user, set()).add(code[item])
            start = time.process_time()
            with evidence_of() as evidence:
                model = make_model(name, seed, options.epochs).fit(train)
            seconds = time.process_time() - start
            terms = {part: term_of(evidence, places) for part, places in PARTS.items()}
            found = walk(model, test, asked, texts, seen, terms)
            report = {
                "data": data, "seed": seed, "model": name, "n_train": len(train),
                "n_queried": len(asked), "n_items": len(item_ids), "weight": model.query_weight_,
                **model.lexical_weights_, "weight_of_meaning_alone": terms["meaning"].weight,
                "fit_cpu_seconds": round(seconds, 1), **found.means(),
            }  # fmt: skip
            print(json.dumps(report), flush=True)


def shuffled(data: str, options: argparse.Namespace) -> None:
    """Print the weight where the words of a row belong to another row."""
    events, _ = read(data, options.limit, 0)
    rng = np.random.default_rng(0)
    words = events["query"].to_numpy().copy()
    has = events["query"].notna().to_numpy()
    words[has] = rng.permutation(words[has])
    for name in options.models:
        model = make_model(name, 0, options.epochs).fit(events.assign(query=words))
        weights = {"weight": model.query_weight_, **model.lexical_weights_}
        print(json.dumps({"task": "shuffled", "model": name, **weights}))


def latency(data: str, options: argparse.Namespace) -> None:
    """Print the CPU time of single requests without words, by meaning, and with all, in turns."""
    events, _ = read(data, options.limit, 0)
    cut = int((1 - TEST_SHARE) * len(events))
    train, test = events[:cut], events[cut:]
    queries = test[test["query"].notna()].head(120)[["user_id", "timestamp", "query"]]
    for name in options.models:
        model = make_model(name, 0, 1).fit(train)
        model.recommend(queries)  # warms the cache of texts
        for row in range(len(queries)):
            model.recommend(queries.iloc[row : row + 1])
        index, pairs = model._model.lexical, []
        for row in range(len(queries)):
            one = queries.iloc[row : row + 1]
            took = []
            for X, its in ((one.drop(columns="query"), index), (one, LexicalIndex()), (one, index)):
                model._model.lexical = its
                start = time.process_time()
                model.recommend(X)
                took.append(1000 * (time.process_time() - start))
            pairs.append(took)
        medians = np.median(pairs, axis=0)
        more = np.diff(pairs, axis=1)
        report = {
            "task": "latency", "model": name, "n_items": model.n_items_,
            **dict(zip(("ms_without", "ms_by_meaning", "ms_with_all"), medians, strict=True)),
            "more_by_meaning": float(np.median(more[:, 0])),
            "more_by_lexical": float(np.median(more[:, 1])),
        }  # fmt: skip
        print(json.dumps(report), flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=("compare", "shuffled", "latency"), default="compare")
    parser.add_argument("--data", default="ml-1m", choices=("ml-1m", "amazon-beauty-2014"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--limit", type=int, default=100_000, help="newest events")
    parser.add_argument("--n-queries", type=int, default=1500, help="queried rows")
    parser.add_argument("--epochs", type=int, default=6, help="of the transformer")
    options = parser.parse_args(argv)
    tasks = {"compare": compare, "shuffled": shuffled, "latency": latency}
    tasks[options.task](options.data, options)


if __name__ == "__main__":
    main()
