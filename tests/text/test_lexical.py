"""Search words as words and letters: against a slow reference, growth, odd texts, state."""

from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft.text import LexicalIndex
from sklearn_recft.text._lexical import Postings, terms_of

TEXTS = [
    "Green tea", "green tea with lemon, 20 bags", "Black coffee", "coffee coffee beans",
    "Crème fraîche", "", "!!!", "R2-D2 (1977)", "Straße", "हिन्दी किताब", "東京物語", "o'neill",
]  # fmt: skip
INDEX = LexicalIndex().after(np.arange(len(TEXTS)), TEXTS)


def slow_terms(text):
    """Split ASCII texts into words and padded 2- and 3-grams."""
    words = set("".join(c if c.isalnum() else " " for c in text.lower()).split())
    padded = [f" {word} " for word in words]
    grams = {w[i : i + n] for w in padded for n in (2, 3) for i in range(len(w) - n + 1)}
    return {"words": words, "letters": grams}


def slow_similarities(query, texts):
    found = []
    for name in ("words", "letters"):
        bags = [slow_terms(text)[name] for text in texts]
        df = Counter(term for bag in bags for term in bag)
        n = sum(bool(bag) for bag in bags)
        mean = sum(map(len, bags)) / n
        idf = {term: np.log((n + 1) / (count + 0.5)) for term, count in df.items()}
        terms = slow_terms(query)[name] & idf.keys()
        whole = sum(idf[term] for term in terms)
        found.append(
            [
                sum(idf[term] for term in terms & bag) / whole * 2.2
                / (1 + 1.2 * (0.9 + 0.1 * len(bag) / mean)) if terms & bag else 0.0
                for bag in bags
            ]
        )  # fmt: skip
    return np.array(found)


@pytest.mark.parametrize("query", ["green tea", "cofee", "tea zebra", "lemon Tea 20 tea", "?", ""])
def test_similarities_are_those_of_a_slow_reference(query):
    texts = [text for text in TEXTS if text.isascii()]
    index = LexicalIndex().after(np.arange(len(texts)), texts)
    expected = slow_similarities(query, texts)
    assert_allclose(index.similarities(query, len(texts)), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("creme", "Crème fraîche"), ("FRAÎCHE", "Crème fraîche"), ("strasse", "Straße"),
        ("r2 d2", "R2-D2 (1977)"), ("हिन्दी", "हिन्दी किताब"), ("東京", "東京物語"),
        ("gren te", "Green tea"), ("oneill", "o'neill"),
    ],
)  # fmt: skip
def test_texts_of_many_scripts_are_found(query, text):
    assert TEXTS[INDEX.similarities(query, len(TEXTS))[1].argmax()] == text


def test_vowel_signs_are_parts_of_words():
    words = INDEX.similarities("हिन्दी", len(TEXTS))[0]
    assert (words > 0).sum() == 1


def test_an_index_that_grows_is_that_of_all_texts():
    codes = np.arange(len(TEXTS))
    grown = LexicalIndex()
    for part in np.array_split(codes, 4):
        before = grown.state()["words"]["items"].copy()
        grown, old = grown.after(part, [TEXTS[code] for code in part]), grown
        assert_array_equal(old.state()["words"]["items"], before)
    for name in ("words", "letters"):
        for key, array in INDEX.state()[name].items():
            assert_array_equal(grown.state()[name][key], array)
    assert grown.n_items == INDEX.n_items == len(TEXTS)


def test_known_items_keep_their_first_text():
    again = INDEX.after(np.array([0, 3]), ["zebra", "zebra"])
    assert again is INDEX
    more = INDEX.after(np.array([0, 12, 12]), ["zebra", "oat milk", "zebra"])
    assert not more.similarities("zebra", 13)[0].any()
    assert more.similarities("oat", 13)[0].argmax() == 12


def test_an_item_without_a_title_takes_the_first_that_comes():
    codes, titled = np.arange(3), np.array([True, False, False])
    index = LexicalIndex().after(codes, ["Green tea", "i1", "i2"], titled)
    assert index.untitled.tolist() == [1, 2]
    assert index.after(codes, ["x", "i1", "x"], np.zeros(3, bool)) is index
    named = index.after(np.array([0, 1, 3]), ["zebra", "Black tea", "i3"], np.arange(3) < 2)
    assert named.untitled.tolist() == [2, 3]
    assert named.after(np.array([1]), ["zebra"]) is named
    whole = LexicalIndex().after(np.arange(4), ["Green tea", "Black tea", "i2", "i3"])
    for name in ("words", "letters"):
        for key, array in whole.state()[name].items():
            assert_array_equal(named.state()[name][key], array)


def test_rows_are_as_lists_and_unknown_items_are_read():
    words = ["green tea", "", "coffee", "green tea"]
    items = np.array([1, 0, -1, -1])
    found = INDEX.of_rows(words, items, ["", "", "coffee coffee beans", "quiz"])
    assert_array_equal(found[:, 0], INDEX.similarities("green tea", len(TEXTS))[:, 1])
    assert_allclose(found[:, 2], INDEX.similarities("coffee", len(TEXTS))[:, 3])
    assert not found[:, [1, 3]].any()
    new = INDEX.of_rows(["oat"] * 2, np.array([-1, -1]), ["oat", "quince"])
    assert new[0, 0] > 0.9
    assert not new[:, 1].any()
    assert not LexicalIndex().of_rows(["tea"], np.array([3]), None).any()


def test_what_is_read_of_a_text_is_bounded():
    long = "zebra " * 5000 + "quince"
    sizes = {name: len(terms) for name, terms in terms_of(long).items()}
    assert sizes["words"] <= 3
    index = LexicalIndex().after(np.arange(1), [long])
    assert not index.similarities("quince", 1)[0].any()


def test_state_round_trip_to_the_bit():
    twin = LexicalIndex()
    twin.load_state(INDEX.state())
    for query in ("green tea", "cofee"):
        found = twin.similarities(query, len(TEXTS))
        assert_array_equal(found, INDEX.similarities(query, len(TEXTS)))
    assert twin.after(np.array([12]), ["oat"]).n_items == 13


@pytest.mark.parametrize(
    "change",
    [
        {"counts": np.array([1])}, {"counts": np.array([2, 0])}, {"counts": np.array([1, 2])},
        {"terms": np.array([5, 5], np.uint64)},
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(change):
    arrays = {
        "terms": np.array([3, 5], np.uint64), "counts": np.array([1, 1]),
        "items": np.array([0, 0], np.int32),
    }  # fmt: skip
    Postings(**arrays)
    with pytest.raises(ValueError, match="LexicalIndex: the terms"):
        Postings(**{**arrays, **change})
