"""Clicks on displayed lists: position bias, exploration, and the truth about any list."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from sklearn_recft.columns import to_ids, to_numbers
from sklearn_recft.names import ITEM, TIME, USER
from sklearn_recft.tables import columns_of
from sklearn_recft.times import to_seconds
from sklearn_recft.vocabulary import Vocabulary

CLICK_PARAMETERS = {
    "examination": ["array-like", None],
    "exploration": [Interval(Real, 0, 1, closed="both")],
    "random_state": ["random_state"],
}


class ClickModel:
    """Users who examine ranks with known probabilities and click what they like.

    A subclass says how likely each user clicks an examined item.

    Parameters
    ----------
    item_ids : ndarray of shape (n_items,)
        The catalogue.
    examination : array-like or None
    exploration : float
    random_state : int, RandomState instance or None
    """

    def __init__(self, item_ids, examination, exploration, random_state):
        self.examination = _check_examination(examination)
        self.exploration = float(exploration)
        self._items = Vocabulary(item_ids)
        rng = check_random_state(np.random.RandomState() if random_state is None else random_state)
        # Streams of their own: what is displayed changes neither the visits nor the luck of a rank.
        seeds = rng.randint(2**31 - 1, size=4)
        self._plant, self._visit, self._display, self._click = map(np.random.RandomState, seeds)
        self._n_lists = 0

    @property
    def item_ids(self):
        """Ids of the catalogue, shape (n_items,)."""
        return self._items.ids

    def show(self, visits, items):
        """Display lists and draw the clicks.

        With probability `exploration`, a list is replaced by items of the catalogue in random
        order. Rank :math:`k` is examined with probability `examination[k]`, independently, and an
        examined item is clicked with :meth:`click_probability`.

        Parameters
        ----------
        visits : frame with ``user_id`` and ``timestamp``, or array of these columns
            One row per list.
        items : array-like of shape (n_visits, n_ranks)
            Item ids of each list, best first, such as ``recommend`` returns.

        Returns
        -------
        shown : DataFrame of n_visits * n_ranks rows
            ``list_id`` (which goes on from call to call), ``user_id``, ``item_id``, ``rank`` from
            1, ``clicked`` (0 or 1), ``timestamp``, and ``propensity``: the probability that the
            item is examined, over the random choice between the given list and exploration. It
            equals ``examination[rank - 1]`` if there is no exploration.
        """
        pandas = _pandas()
        users, times, codes = self._check(visits, items)
        n_lists, n_ranks = codes.shape
        shown = self._explore(codes)
        taste = self._probability(users, times, shown)
        examined, liked = self._click.random_sample((2, n_lists, n_ranks))
        bias = self._bias(n_ranks)
        clicked = (examined < bias) & (liked < taste)
        by_chance = self.exploration * bias.sum() / len(self._items)
        ranked = np.take_along_axis(self._examined(codes), shown, axis=1)
        propensity = (1 - self.exploration) * ranked + by_chance
        lists = self._n_lists + np.arange(n_lists)
        self._n_lists += n_lists
        return pandas.DataFrame(
            {
                "list_id": lists.repeat(n_ranks),
                "user_id": users.repeat(n_ranks),
                "item_id": self._items.decode(shown.ravel()),
                "rank": np.tile(np.arange(1, n_ranks + 1), n_lists),
                "clicked": clicked.ravel().astype(np.int64),
                "timestamp": times.repeat(n_ranks),
                "propensity": propensity.ravel(),
            }
        )

    def click_probability(self, visits, items):
        """Return the true probability of a click on each item if it is examined.

        Parameters
        ----------
        visits, items
            As in :meth:`show`.

        Returns
        -------
        probability : ndarray of shape (n_visits, n_ranks)
        """
        return self._probability(*self._check(visits, items))

    def expected_clicks(self, visits, items):
        """Return the true expected number of clicks of each list, without exploration.

        Parameters
        ----------
        visits, items
            As in :meth:`show`.

        Returns
        -------
        clicks : ndarray of shape (n_visits,)
        """
        probability = self.click_probability(visits, items)
        return probability @ self._bias(probability.shape[1])

    def best_lists(self, visits, n_ranks=10):
        """Return the lists with the most expected clicks; the regret of a list is the difference.

        Parameters
        ----------
        visits
            As in :meth:`show`.
        n_ranks : int, default=10
            Length of the lists.

        Returns
        -------
        items : ndarray of shape (n_visits, n_ranks)
            Items by probability of a click, highest first; ties in the order of the catalogue.
        """
        users, times = _columns(visits)
        self._check_users(users)
        if not isinstance(n_ranks, Integral) or not 1 <= n_ranks <= len(self._items):
            raise ValueError(
                f"n_ranks must be an integer from 1 to the {len(self._items)} items of the "
                f"catalogue, got {n_ranks!r}."
            )
        every = np.broadcast_to(np.arange(len(self._items)), (len(users), len(self._items)))
        taste = self._probability(users, times, every)
        self._bias(n_ranks)
        return self.item_ids[np.argsort(-taste, axis=1, kind="stable")[:, :n_ranks]]

    def examined_in(self, items, shown):
        """Return the probability that each shown item is examined in other lists for its visit.

        These are the ``probabilities`` of :func:`~sklearn_recft.metrics.item_position_value`.

        Parameters
        ----------
        items : array-like of shape (n_visits, n_ranks)
            Lists of a target policy for the same visits.
        shown : DataFrame
            What :meth:`show` returned for these visits. Its rows may be in any order, and some of
            them may be left out, as long as no list is left out as a whole.

        Returns
        -------
        probability : ndarray of shape (len(shown),)
            ``examination[k]`` if the target policy has the item at rank ``k``, 0 if it has not.
        """
        codes = self._codes(items)
        columns = columns_of(shown, ("list_id", USER, ITEM))
        if not {"list_id", ITEM} <= columns.keys():
            raise ValueError("shown needs the columns list_id and item_id, as show returns them.")
        # `show` numbers the lists in the order of the visits.
        lists, row = np.unique(to_numbers(columns["list_id"], "list_id"), return_inverse=True)
        if len(lists) != len(codes):
            raise ValueError(
                f"items has {len(codes)} lists, shown has {len(lists)}: give one list for each "
                "list that was shown, in the order of the visits."
            )
        there = self._items.encode(to_ids(columns[ITEM], ITEM))
        self._refuse_unknown(there < 0, "shown: item_id", "rows")
        return self._examined(codes)[row, there]

    def _probability(self, users, times, codes):
        """Return the probability of a click on examined items, by code (n_visits, n_ranks)."""
        raise NotImplementedError

    def _check_users(self, users):
        """Raise an error if a user cannot visit."""

    def _explore(self, codes):
        """Replace a random part of the lists by random items."""
        n_lists, n_ranks = codes.shape
        replaced = self._display.random_sample(n_lists) < self.exploration
        shown = codes.copy()
        for row in np.flatnonzero(replaced):
            shown[row] = self._display.choice(len(self._items), n_ranks, replace=False)
        return shown

    def _examined(self, codes):
        """Return the examination (n_lists, n_items) of each item, 0 if the list has it not."""
        table = np.zeros((len(codes), len(self._items)))
        np.put_along_axis(table, codes, self._bias(codes.shape[1])[None, :], axis=1)
        return table

    def _bias(self, n_ranks):
        if self.examination is None:
            return 1 / np.log2(np.arange(2, n_ranks + 2))
        if n_ranks > len(self.examination):
            raise ValueError(
                f"items: lists have {n_ranks} ranks, examination has {len(self.examination)}; "
                "give shorter lists or the examination of every rank."
            )
        return self.examination[:n_ranks]

    def _check(self, visits, items):
        users, times = _columns(visits)
        self._check_users(users)
        codes = self._codes(items)
        if len(codes) != len(users):
            raise ValueError(f"items has {len(codes)} lists, visits has {len(users)} rows.")
        self._bias(codes.shape[1])
        return users, times, codes

    def _codes(self, items):
        if isinstance(items, (list, tuple)):
            lengths = sorted({len(one) for one in items if hasattr(one, "__len__")})
            if len(lengths) > 1:
                raise ValueError(
                    f"items: lists have {lengths[0]} to {lengths[-1]} items; give all of them the "
                    "same length."
                )
        items = np.asarray(items)
        if items.ndim != 2 or not items.shape[1]:
            raise ValueError(
                f"items must have shape (n_visits, n_ranks) with at least one rank, got "
                f"{items.shape}."
            )
        codes = self._items.encode(items.ravel()).reshape(items.shape)
        self._refuse_unknown((codes < 0).any(1), "items", "lists")
        twice = (np.diff(np.sort(codes, axis=1), axis=1) == 0).any(1)
        if twice.any():
            raise ValueError(
                f"items: {int(twice.sum())} of {len(codes)} lists have an item twice; show each "
                "item once."
            )
        return codes

    def _refuse_unknown(self, unknown, name, what):
        if unknown.any():
            raise ValueError(
                f"{name}: {int(unknown.sum())} of {len(unknown)} {what} have an item that is not "
                f"in the catalogue (`item_ids`); fill or drop these {what}."
            )


def visits_frame(users, times):
    """Make the table of visits."""
    return _pandas().DataFrame({"user_id": users, "timestamp": times})


def _columns(visits):
    if hasattr(visits, "__len__") and not len(visits):
        raise ValueError("visits is empty: at least one row is required.")
    columns = columns_of(visits, (USER, TIME))
    if not {USER, TIME} <= columns.keys():
        raise ValueError("visits needs the columns user_id and timestamp.")
    times = to_seconds(columns[TIME], TIME)
    return to_ids(columns[USER], USER), times


def _check_examination(examination):
    if examination is None:
        return None
    values = to_numbers(np.ravel(examination), "examination")
    bad = (values <= 0) | (values > 1)
    if bad.any() or not len(values):
        raise ValueError(
            f"examination: {int(bad.sum())} of {len(values)} ranks are not above 0 and at most 1; "
            "give the probability that each rank is examined."
        )
    return values


def _pandas():
    try:
        import pandas
    except ImportError as exc:
        raise ImportError("Tables of lists need pandas: pip install pandas") from exc
    return pandas
