"""Texts of items, and their encoding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sklearn_recft.text._items import (
    best_texts,
    make_encoder,
    new_texts,
    read_texts,
    texts_of,
)
from sklearn_recft.vocabulary import Vocabulary

TEXTS = ["green tea", "black tea", "coffee", "green tea"]


@pytest.mark.parametrize("ids", [[7, 8, 9, 7], ["a", "b", "c", "a"]])
def test_an_item_without_a_text_uses_its_id(ids):
    names = [str(own) for own in ids]
    ids = np.array(ids, object)
    assert texts_of(ids, None) == names
    blank = np.array(["", "black tea", " \t\n", "  tea "], object)
    assert texts_of(ids, blank) == [names[0], "black tea", names[2], "  tea "]
    assert texts_of(ids[:0], blank[:0]) == []


def test_numbers_are_converted_to_strings():
    assert texts_of(np.array([3, 4]), None) == ["3", "4"]
    assert texts_of(np.array([3, 4]), np.array([1999, 2001.5], object)) == ["1999", "2001.5"]


def test_a_text_comes_before_an_id():
    codes, ids = np.array([2, 0, 2, 0, 1]), np.array(["c", "a", "c", "a", "b"])
    found = best_texts(codes, ["c", "tea", "milk", "late tea", "b"], ids)
    assert_array_equal(found[0], [0, 1, 2])
    assert found[1] == ["tea", "b", "milk"]


rows = st.lists(st.tuples(st.integers(0, 9), st.sampled_from("pqrs")), max_size=30)


@given(rows, rows)
@settings(deadline=None, max_examples=30)
def test_an_items_text_is_its_first_one(known, new):
    """In the order of codes, and without known items."""
    vocabulary = Vocabulary()
    vocabulary.extend(np.array([item for item, _ in known], np.int64))
    before = len(vocabulary)
    codes = vocabulary.extend(np.array([item for item, _ in new], np.int64))
    first: dict[int, str] = {}
    for item, text in new:
        if item not in dict(known):
            first.setdefault(item, text)
    assert new_texts(codes, [text for _, text in new], before) == list(first.values())
    assert len(vocabulary) - before == len(first)


@pytest.mark.parametrize("separately", [False, True])
def test_a_frozen_encoder_gives_vectors(separately):
    encoder = make_encoder("scratch", "all", TEXTS, seed=0, device="cpu", lora_rank=0)
    found = read_texts(encoder, TEXTS, n_threads=1, separately=separately)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, encoder.encode(TEXTS))
    assert encoder.n_encoded == 3
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("freeze", [0, 1, "none"])
def test_a_trained_encoder_gives_codes(freeze):
    encoder = make_encoder("scratch", freeze, TEXTS, seed=0, device="cpu", lora_rank=0)
    assert read_texts(encoder, TEXTS, n_threads=1, separately=True).tolist() == [0, 1, 2, 0]
    assert read_texts(encoder, ["tea", "coffee"], n_threads=1, separately=False).tolist() == [3, 2]
    assert any(parameter.requires_grad for parameter in encoder.parameters())


def test_a_number_of_all_layers_freezes_all():
    encoder = make_encoder("scratch", 2, TEXTS, seed=0, device="cpu", lora_rank=0)
    assert read_texts(encoder, TEXTS, n_threads=1, separately=False).shape == (4, encoder.width)


def test_without_an_encoder_there_are_no_texts():
    assert read_texts(None, TEXTS, n_threads=1, separately=False) is None


def test_a_scratch_encoder_depends_on_the_seed():
    """It does not depend on the frequency of texts."""
    one, other, third = (
        make_encoder("scratch", "all", texts, seed=seed, device="cpu", lora_rank=0).encode(TEXTS)
        for texts, seed in ((TEXTS, 1), (TEXTS[:3] * 5, 1), (TEXTS, 2))
    )
    np.testing.assert_array_equal(one, other)
    assert np.abs(one - third).max() > 0.01


@pytest.mark.parametrize("freeze", [-1, 3, "some"])
def test_a_wrong_freeze_raises(freeze):
    with pytest.raises(ValueError, match=r"'all', 'none' or a number of layers from 0 to 2"):
        make_encoder("scratch", freeze, TEXTS, seed=0, device="cpu", lora_rank=0)
