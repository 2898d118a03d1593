"""Scores of a blend as sums over members, and over past items of those that explain theirs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sklearn_recft.events import Interactions
from sklearn_recft.models._adaptive_parts import BEHIND, FINAL, ITEM_FEATURES, Member
from sklearn_recft.models._adaptive_tiles import Block, PoolScorer
from sklearn_recft.models._base import FittedModel
from sklearn_recft.models._explain import Explanation


@dataclass(frozen=True)
class Sums:
    """Scores of n rows as sums over E members.

    Attributes
    ----------
    of_members : ndarray of shape (E, n)
        What each member adds to the score.
    rates : ndarray of shape (E, n)
        Change of the score for a change of the member's own score.
    terms : dict of str to ndarray of shape (n,)
        The rest of the score.
    """

    of_members: np.ndarray
    rates: np.ndarray
    terms: dict[str, np.ndarray]

    @classmethod
    def of(cls, block: Block, items: np.ndarray, weights: np.ndarray, scorer: PoolScorer) -> Sums:
        """Split the scores of one item of each query of a block."""
        n_members, n_rows, n_items = block.tiles.shape
        out = np.empty((n_rows, n_items), np.float32)
        unknown = block.write(scorer, out)
        pools, rows, there = block.pools(with_hidden=True), np.arange(n_rows), items >= 0
        score = np.where(there, out[rows, items], unknown)
        inside = (pools.items == items[:, None]).any(axis=1) & there
        features = block.features(items[:, None])[:, 0]
        total = weights[pools.rows].sum(axis=1)
        parts = np.where(inside[:, None], total * features, 0.0)
        of_members = parts[:, :n_members] + parts[:, n_members : 2 * n_members]
        outside = features[:, n_members : 2 * n_members] / n_members
        of_members = np.where(inside[:, None], of_members, outside)
        rates = np.where(
            inside[:, None], total[:, n_members : 2 * n_members], 1.0 / n_members
        ) * np.where(there[:, None], block.scale.T, 0.0)
        terms = dict(zip(ITEM_FEATURES, parts[:, 2 * n_members :].T, strict=False))
        rest = score - of_members.sum(axis=1) - sum(terms.values())
        terms[BEHIND] = np.where(inside, 0.0, rest)
        if not weights.any():
            terms[FINAL] = np.where(inside, rest, 0.0)
        return cls(of_members.T, rates.T, terms)

    @classmethod
    def joined(cls, blocks: list[Sums]) -> Sums:
        """Return the sums of all rows of blocks."""
        return cls(
            np.concatenate([block.of_members for block in blocks], axis=1),
            np.concatenate([block.rates for block in blocks], axis=1),
            {n: np.concatenate([block.terms[n] for block in blocks]) for n in blocks[0].terms},
        )

    def explanation(
        self, names: list[str], theirs: list[tuple[Explanation, np.ndarray] | None]
    ) -> Explanation:
        """Return contributions of past items, by the explanations of members that have them.

        Parameters
        ----------
        names : list of str
            Names of the members.
        theirs : list of pairs, or None
            The explanation of each member's own scores, and the item codes of the blend for its
            own; None for a member without explanations.
        """
        n, parts, terms = self.rates.shape[1], [], dict(self.terms)
        for e, (name, pair) in enumerate(zip(names, theirs, strict=True)):
            terms[name] = self.of_members[e]
            if pair is None:
                continue
            found, codes = pair
            row, place = np.nonzero(found.item >= 0)
            value = found.contribution[row, place] * self.rates[e][row]
            parts.append((e, row, codes[found.item[row, place]], value))
            terms[name] = terms[name] - np.bincount(row, value, n)
        none = np.empty(0, np.int64)
        row, item = (np.concatenate([none, *(part[k] for part in parts)]) for k in (1, 2))
        value = np.concatenate([np.empty(0), *(part[3] for part in parts)])
        whole = Explanation.of_parts(n, (row, item, value), terms)
        about = {
            f"contribution of {names[e]}": _laid_out(whole.item, row, item, value)
            for e, row, item, value in parts
        }
        return replace(whole, about=about)


def own_reasons(
    members: tuple[Member, ...],
    models: tuple[FittedModel, ...],
    item_codes: tuple[np.ndarray, ...],
    rows: Interactions,
) -> list[tuple[Explanation, np.ndarray] | None]:
    """Return how each member explains its scores of rows, and the blend's codes for its items."""
    found: list[tuple[Explanation, np.ndarray] | None] = []
    for member, model, codes in zip(members, models, item_codes, strict=True):
        back = np.full(model.n_items, -1, np.int64)
        back[codes[codes >= 0]] = np.flatnonzero(codes >= 0)
        found.append((model.explain(model.encode(rows)), back) if member.explains else None)
    return found


def _laid_out(
    layout: np.ndarray, row: np.ndarray, item: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """Return the sums of values by row and item, where ``layout`` has the item."""
    width = int(max(layout.max(initial=0), item.max(initial=0))) + 1
    wanted = np.where(layout >= 0, np.arange(len(layout))[:, None] * width + layout, -1)
    keys, places = np.unique(row * width + item, return_inverse=True)
    if not len(keys):
        return np.zeros(layout.shape)
    sums = np.bincount(places, value)
    near = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[near] == wanted, sums[near], 0.0)
