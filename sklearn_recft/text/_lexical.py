"""Match search words with texts as words, and as character n-grams where they are mistyped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np

FIELDS = ("words", "letters")  # the two similarities
_MOST_CHARACTERS = 512  # of a text that are read: bounds memory
_WORD = re.compile(r"[^\W_]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_CACHED = 1 << 16  # distinct words whose terms are kept within the process
_CACHED_QUERIES = 1 << 10  # search words, the same
_BITS = 21  # of a character: three of them are one number without a sign
# BM25, whose term frequency is 0 or 1. Titles that are long hardly lose against short ones.
_K1, _B = 1.2, 0.1


class LexicalIndex:
    """Inverted index of the words and of the character 2- and 3-grams of items' texts.

    Both similarities of search words q and a text are BM25 of terms that are there or not, divided
    by its value for a text of mean length that has all terms:

    ``s * (k1 + 1) / (1 + k1 (1 - b + b n / mean n))``

    with the share ``s = sum_{t in q and text} idf_t / sum_{t in q} idf_t``, n terms of the text,
    ``idf_t = log((N + 1) / (df_t + 0.5))``, k1 = 1.2 and b = 0.1. Terms
    that no text has are left out. The similarities are 0 without a common term, and about 1 if all
    terms are found. Of a text, 512 characters are read. Case and accents are ignored. Immutable:
    `after` returns a new object.

    Attributes
    ----------
    n_items : int
        Number of items whose texts were read.
    untitled : ndarray, int64
        Codes of the items that have no text but their id, ascending.
    fields : dict of str to Postings
        "words" and "letters".

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.text import LexicalIndex
    >>> index = LexicalIndex().after(np.arange(3), ["Green tea", "Black tea", "Black coffee"])
    >>> words, letters = index.similarities("black cofee", 3)
    >>> words.round(1).tolist()  # "cofee" is no word of a text
    [0.0, 1.0, 1.0]
    >>> int(letters.argmax())
    2
    """

    def __init__(self) -> None:
        self.n_items = 0
        self.untitled = np.empty(0, np.int64)
        self.fields = {name: Postings() for name in FIELDS}

    def after(
        self, codes: np.ndarray, texts: Sequence[str], titled: np.ndarray | None = None
    ) -> LexicalIndex:
        """Return the index with the first text of each new item, and of each untitled one.

        Other known items keep their text.

        Parameters
        ----------
        codes : ndarray of shape (n,)
            Item codes; those below `n_items` are known.
        texts : sequence of n str
        titled : ndarray of shape (n,), bool
            Whether the text is more than the id of the item; None is True.
        """
        titled = np.ones(len(codes), bool) if titled is None else titled
        distinct, first = np.unique(codes, return_index=True)
        new = distinct >= self.n_items
        late = np.isin(distinct, self.late(codes, titled))
        if not (new | late).any():
            return self
        grown = LexicalIndex()
        grown.n_items = max(int(distinct[-1]) + 1, self.n_items)
        named = np.setdiff1d(self.untitled, distinct[late])
        grown.untitled = np.append(named, distinct[new & ~titled[first]])
        terms = [terms_of(texts[row]) for row in first.tolist()]
        for name, postings in self.fields.items():
            if late.any():
                its = [terms[place][name] for place in np.flatnonzero(late).tolist()]
                postings = postings.replaced(distinct[late], its)
            its = [terms[place][name] for place in np.flatnonzero(new).tolist()]
            grown.fields[name] = postings.after(distinct[new], its)
        return grown

    def late(self, codes: np.ndarray, titled: np.ndarray) -> np.ndarray:
        """Return the codes, ascending, of the untitled items that now have a text."""
        return np.intersect1d(self.untitled, codes[titled])

    def similarities(self, words: str, n_items: int) -> np.ndarray:
        """Return both similarities of search words to all items, (2, n_items)."""
        terms = _terms_of_query(words)
        found = [self.fields[name].similarity(terms[name], n_items) for name in FIELDS]
        return np.stack(found)

    def of_rows(
        self, words: Sequence[str], items: np.ndarray, texts: Sequence[str] | None
    ) -> np.ndarray:
        """Return both similarities (2, n) of the words and the item of each row.

        Parameters
        ----------
        words : sequence of n str
            Empty in rows without search words, whose similarities are 0.
        items : ndarray of shape (n,)
            Item codes; -1 is an unknown item, whose text is read.
        texts : sequence of n str, or None
        """
        found = np.zeros((len(FIELDS), len(items)))
        n_items = max(int(items.max(initial=-1)) + 1, self.n_items)
        rows_of: dict[str, list[int]] = {}
        for row, its in enumerate(words):
            if its:
                rows_of.setdefault(its, []).append(row)
        for its, places in rows_of.items():
            rows = np.array(places)
            known = rows[items[rows] >= 0]
            if len(known):
                found[:, known] = self.similarities(its, n_items)[:, items[known]]
            for row in rows[items[rows] < 0].tolist():
                found[:, row] = self._of_text(its, "" if texts is None else texts[row])
        return found

    def _of_text(self, words: str, text: str) -> list[float]:
        """Return both similarities of search words to a text of no item."""
        query, terms = _terms_of_query(words), terms_of(text)
        return [self.fields[name].of_text(query[name], terms[name]) for name in FIELDS]

    # ------------------------------------------------------------------ as a part

    def mark(self, *rows: Any) -> None:
        """Return None: an index never changes in place."""

    def restore(self, mark: None) -> None:
        """Do nothing: an index never changes in place."""

    def state(self) -> dict[str, Any]:
        """Return the arrays by name."""
        fields = {name: postings.state() for name, postings in self.fields.items()}
        return {"n_items": self.n_items, "untitled": self.untitled, **fields}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.n_items = state["n_items"]
        self.untitled = state.get("untitled", np.empty(0, np.int64))
        self.fields = {name: Postings(**state[name]) for name in FIELDS}

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: there is no state per user."""


class Postings:
    """Items of each term, and the weights of BM25; immutable.

    Parameters
    ----------
    terms : ndarray of shape (n_terms,), uint64
        Ascending.
    counts : ndarray of shape (n_terms,), int64
        Number of items of each term, at least 1.
    items : ndarray of shape (counts.sum(),), int32
        Their codes, term by term, ascending for each.

    Raises
    ------
    ValueError
        If the arrays do not fit to each other.
    """

    def __init__(
        self,
        terms: np.ndarray | None = None,
        counts: np.ndarray | None = None,
        items: np.ndarray | None = None,
    ) -> None:
        self.terms = np.empty(0, np.uint64) if terms is None else terms
        self.counts = np.empty(0, np.int64) if counts is None else counts
        self.items = np.empty(0, np.int32) if items is None else items
        if (
            len(self.counts) != len(self.terms)
            or self.counts.min(initial=1) < 1
            or self.counts.sum() != len(self.items)
            or (self.terms[1:] <= self.terms[:-1]).any()
        ):
            raise ValueError("LexicalIndex: the terms, counts and items do not fit to each other.")
        self._starts = np.append(0, np.cumsum(self.counts))
        sizes = np.bincount(self.items)  # terms of each item
        n_texts = int(np.count_nonzero(sizes))
        self._idf = np.log((n_texts + 1) / (self.counts + 0.5))
        self._idf_of_new = float(np.log((n_texts + 1) / 0.5))
        self._mean_size = len(self.items) / max(n_texts, 1)
        self._strength = self._strength_of(sizes)

    def _strength_of(self, sizes: np.ndarray) -> np.ndarray:
        """Return the weight of a common term in texts of so many terms."""
        longer = sizes / max(self._mean_size, 1.0)
        strength: np.ndarray = (_K1 + 1) / (1 + _K1 * (1 - _B + _B * longer))
        return strength

    def after(self, codes: np.ndarray, terms: list[np.ndarray]) -> Postings:
        """Return the postings with the distinct terms of new items, whose codes ascend."""
        flat = np.concatenate([np.empty(0, np.uint64), *terms])
        order = np.argsort(flat, kind="stable")
        flat, its = flat[order], np.repeat(codes, [len(some) for some in terms])[order]
        # Codes of new items are the largest: they come last in the run of a term.
        place, known = self._found(flat)
        items = np.insert(self.items, self._starts[place + known], its.astype(np.int32))
        new, first, n_new = np.unique(flat, return_index=True, return_counts=True)
        place, known = place[first], known[first]
        counts = self.counts.copy()
        counts[place[known]] += n_new[known]
        at, new, n_new = place[~known], new[~known], n_new[~known]
        return Postings(np.insert(self.terms, at, new), np.insert(counts, at, n_new), items)

    def replaced(self, codes: np.ndarray, terms: list[np.ndarray]) -> Postings:
        """Return the postings with other distinct terms of some known items."""
        kept = ~np.isin(self.items, codes)
        flat = np.concatenate([np.repeat(self.terms, self.counts)[kept], *terms])
        new = np.repeat(codes, [len(some) for some in terms])
        items = np.concatenate([self.items[kept], new.astype(np.int32)])
        order = np.lexsort((items, flat))
        distinct, counts = np.unique(flat, return_counts=True)
        return Postings(distinct, counts, items[order])

    def similarity(self, query: np.ndarray, n_items: int) -> np.ndarray:
        """Return the similarity (n_items,) of the terms of a query to each item."""
        found, places = np.zeros(n_items), self._places(query)
        places = places[places >= 0]
        if len(places):
            idf, counts = self._idf[places], self.counts[places]
            starts = self._starts[places].tolist()
            spans = [self.items[a : a + n] for a, n in zip(starts, counts.tolist(), strict=True)]
            sums = np.bincount(np.concatenate(spans), np.repeat(idf, counts), len(self._strength))
            found[: len(sums)] = sums * (self._strength / idf.sum())
        return found

    def of_text(self, query: np.ndarray, text: np.ndarray) -> float:
        """Return the similarity of the terms of a query to those of a text of no item.

        Terms that this text alone has count, too.
        """
        places, common = self._places(query), np.isin(query, text)
        if not common.any():
            return 0.0
        idf = np.full(len(query), self._idf_of_new)
        idf[places >= 0] = self._idf[places[places >= 0]]
        strength = self._strength_of(np.array([len(text)]))[0]
        return float(idf[common].sum() * strength / idf[common | (places >= 0)].sum())

    def _places(self, query: np.ndarray) -> np.ndarray:
        """Return the places of terms; -1 for those of no item."""
        places, known = self._found(query)
        return np.where(known, places, -1)

    def _found(self, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where terms are or belong, and whether they are there."""
        places = np.searchsorted(self.terms, terms)
        known = np.zeros(len(terms), bool)
        inside = places < len(self.terms)
        known[inside] = self.terms[places[inside]] == terms[inside]
        return places, known

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {"terms": self.terms, "counts": self.counts, "items": self.items}


def terms_of(text: str) -> dict[str, np.ndarray]:
    """Return the distinct terms of a text, ascending uint64, for each of `FIELDS`."""
    found = [_terms_of_word(word) for word in set(_words_of(text))]
    words = np.array([word for word, _ in found], np.uint64)
    letters = np.concatenate([np.empty(0, np.uint64), *(some for _, some in found)])
    return {"words": np.unique(words), "letters": np.unique(letters)}


@lru_cache(_CACHED_QUERIES)
def _terms_of_query(words: str) -> dict[str, np.ndarray]:
    """Return `terms_of` of search words, which many requests share; do not write to them."""
    return terms_of(words)


def _words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case and without accents."""
    text = text[:_MOST_CHARACTERS]
    if text.isascii():
        return _WORD.findall(text.lower())
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    # Vowel signs of many scripts are marks: they are parts of words.
    kept = [c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in plain]
    return unicodedata.normalize("NFC", "".join(kept)).split()


@lru_cache(_CACHED)
def _terms_of_word(word: str) -> tuple[int, np.ndarray]:
    """Return the hash of a word, and its 2- and 3-grams with a space at both ends."""
    name = int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    codes = np.frombuffer(f" {word} ".encode("utf-32-le", "surrogatepass"), np.uint32)
    codes = codes.astype(np.uint64)
    pairs = codes[:-1] << _BITS | codes[1:]
    return name, np.concatenate([pairs, pairs[:-1] << _BITS | codes[2:]])
