"""Sizes in saved states."""

import pytest

from sklearn_recft.models._layout import check_sizes

CATALOGUE = {"n_items": 12_000, "text_width": 384}


def test_a_log_may_be_longer_than_any_array():
    check_sizes({**CATALOGUE, "n_events": 10**9}, 50 << 20)
    with pytest.raises(ValueError, match="sizes of 12000 and 100000 are too large"):
        check_sizes({**CATALOGUE, "text_width": 100_000}, 50 << 20)


@pytest.mark.parametrize("n_events", [-1, 1 << 63, "many", None])
def test_a_number_of_events_is_checked(n_events):
    with pytest.raises(ValueError, match=f"n_events={n_events} is not possible"):
        check_sizes({**CATALOGUE, "n_events": n_events}, 50 << 20)
