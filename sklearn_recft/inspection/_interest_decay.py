"""How much of a past event's weight is left, by its age: one line a head of attention."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.inspection._style import new_axes, styles

_SECOND, _MINUTE, _HOUR, _YEAR = 1 / 86400, 1 / 1440, 1 / 24, 365.25  # in days
_CENTURY = 100 * _YEAR
# Shortest time that is shown in a unit, and that unit in days.
_UNITS = (
    (_YEAR, "years"),
    (1.0, "days"),
    (_HOUR, "hours"),
    (_MINUTE, "minutes"),
    (_SECOND, "seconds"),
)
_TICKS = {
    "1 s": _SECOND,
    "10 s": 10 * _SECOND,
    "1 min": _MINUTE,
    "10 min": 10 * _MINUTE,
    "1 h": _HOUR,
    "6 h": 6 * _HOUR,
    "1 d": 1.0,
    "1 wk": 7.0,
    "1 mo": _YEAR / 12,
    "1 y": _YEAR,
    "10 y": 10 * _YEAR,
    "100 y": _CENTURY,
}
_POINTS_PER_LINE = 400


class InterestDecayDisplay:
    """Weight that is left of a past event, against its age, for each head of attention.

    Build it with :meth:`from_estimator`. A marker on each line shows the head's half-life. The
    weight is that of an event beside an equal one of age 0, before the events of a user share
    what attention there is.

    Parameters
    ----------
    half_lives : array-like of shape (n_heads,) or (n_layers, n_heads)
        Days in which the weight of an event halves, for each head; inf: it never does.
    decay : {"exponential", "log", "none"}, default="exponential"
        The weight at an age of t days, for a half-life of h days, is
        `2 ** (-t / h)`, or `2 ** (-log(1 + t) / log(1 + h))`, or 1.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the lines; ages are in days, on a logarithmic axis.
    figure_ : matplotlib Figure
        Figure with the axes.
    lines_ : list of matplotlib Line2D
        One line a head, in the order of `half_lives`.

    Examples
    --------
    >>> from sklearn_recft.inspection import InterestDecayDisplay
    >>> display = InterestDecayDisplay(half_lives=[0.5, 30.0])
    >>> [line.get_label() for line in display.plot().lines_]
    ['12 hours', '30 days']
    """

    def __init__(self, *, half_lives, decay="exponential"):
        self.half_lives = half_lives
        self.decay = decay

    @classmethod
    def from_estimator(cls, estimator, *, max_age=None, ax=None, **line_kw):
        """Draw how a fitted estimator lets interests fade.

        Parameters
        ----------
        estimator : DecayBertRecommender or RealtimeTransformerRecommender
            Fitted, or a fitted pipeline that ends in one. Heads of several layers are drawn
            layer after layer.
        max_age : float, default=None
            Oldest age that is drawn, in days; None draws until little is left.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        InterestDecayDisplay
            Drawn.

        Raises
        ------
        TypeError
            The estimator learns no half-lives.
        sklearn.exceptions.NotFittedError
            The estimator is not fitted.
        ValueError
            `max_age` is not a positive number of days.
        ImportError
            matplotlib is not installed.

        Examples
        --------
        >>> from sklearn_recft import DecayBertRecommender
        >>> from sklearn_recft.datasets import make_interactions
        >>> from sklearn_recft.inspection import InterestDecayDisplay
        >>> X, y = make_interactions(feedback="click", random_state=0, return_X_y=True)
        >>> model = DecayBertRecommender(backbone=None, random_state=0).fit(X, y)
        >>> display = InterestDecayDisplay.from_estimator(model)
        >>> len(display.lines_) == model.n_heads
        True
        """
        last = getattr(estimator, "steps", [(None, estimator)])[-1][1]
        if not hasattr(type(last), "half_lives_"):
            raise TypeError(
                "estimator must learn half-lives, as DecayBertRecommender and "
                "RealtimeTransformerRecommender do; "
                f"got {type(last).__name__}."
            )
        check_is_fitted(last)
        # As it was fitted, whatever its parameters were set to since.
        display = cls(half_lives=last.half_lives_, decay=last.decay_)
        return display.plot(ax, max_age=max_age, **line_kw)

    def plot(self, ax=None, *, max_age=None, **line_kw):
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        max_age : float, default=None
            Oldest age that is drawn, in days; None draws until little is left.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        InterestDecayDisplay
            Itself, with `ax_`, `figure_` and `lines_`.

        Raises
        ------
        ValueError
            `max_age` is not a positive number of days.
        ImportError
            matplotlib is not installed.
        """
        half_lives = np.asarray(self.half_lives, float).ravel()
        first, last = _ages(half_lives, max_age)
        ax = new_axes(self) if ax is None else ax
        ax.axhline(0.5, color="0.4", linewidth=1.0, linestyle=(0, (1, 3)), zorder=0)
        self.lines_ = []
        for half_life, style in zip(half_lives, styles(), strict=False):
            age = np.geomspace(first, last, _POINTS_PER_LINE)
            half = np.searchsorted(age, half_life)
            marked = []
            if first < half_life < last:  # a point of the line, where the marker is
                age, marked = np.insert(age, half, half_life), [half]
            options = {
                "label": _in_words(half_life),
                **style,
                "markersize": 8.0,
                "markevery": marked,
                "linewidth": 2.0,
                **line_kw,
            }
            self.lines_ += ax.plot(age, _weight(age, half_life, self.decay), **options)
        ax.set_xscale("log")
        ax.set_xlim(first, last)
        ticks = {label: age for label, age in _TICKS.items() if first <= age <= last}
        ax.set_xticks(list(ticks.values()), list(ticks))
        ax.minorticks_off()
        ax.set_ylim(0.0, 1.03)
        ax.set_xlabel("Age of an event")
        ax.set_ylabel("Weight left")
        ax.grid(visible=True, alpha=0.3)
        by_label = {self.lines_[h].get_label(): self.lines_[h] for h in half_lives.argsort()}
        ax.legend(handles=list(by_label.values()), title="Half-life")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _ages(half_lives, max_age):
    """Youngest and oldest age that are drawn, in days."""
    finite = half_lives[np.isfinite(half_lives)]
    if max_age is None:
        # Four half-lives of the slowest head that fades at all.
        last = min(4 * finite.max(), _CENTURY) if len(finite) else _YEAR
    elif np.isfinite(max_age) and max_age > 0:
        last = float(max_age)
    else:
        raise ValueError(f"max_age must be a positive number of days, got {max_age!r}.")
    # The quickest head begins near 1, and leaves room for the legend on its left.
    return min(finite.min(initial=last) / 50, last / 1000), last


def _weight(age, half_life, decay):
    """Weight of events of some ages beside one of age 0."""
    if decay == "none" or np.isinf(half_life):
        return np.ones_like(age)
    if decay == "log":
        return np.exp2(-np.log1p(age) / np.log1p(half_life))
    return np.exp2(-age / half_life)


def _in_words(days):
    """Tell a number of days to two digits, in the unit that fits."""
    if np.isinf(days):
        return "infinite"
    if days > _CENTURY:
        return "over a century"
    size, unit = next((u for u in _UNITS if days >= u[0]), _UNITS[-1])
    number = f"{float(f'{days / size:.2g}'):g}"
    return f"{number} {unit.removesuffix('s') if number == '1' else unit}"
