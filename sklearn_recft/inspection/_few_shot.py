"""Accuracy for new users by number of events: one line per model, baselines in grey."""

import numpy as np

from sklearn_recft.inspection._style import new_axes, styles
from sklearn_recft.model_selection import few_shot_curve


class FewShotDisplay:
    """Accuracy of several models for new users, by number of events that they adapted to.

    Build it with :meth:`from_estimator` or :meth:`from_result`.

    Parameters
    ----------
    shots : array-like of shape (n_shots,)
        Events of each new user.
    scores : dict of str to array-like of shape (n_shots,)
        Score of each model or, with `baseline`, its difference to that of the baseline.
    intervals : dict of str to array-like of shape (n_shots, 2), default=None
        Ends of the interval of each score. None draws none.
    baselines : sequence of str, default=()
        Names among `scores` that are drawn in grey.
    baseline : str, default=None
        Name of the model that the scores are differences to.
    metric : str, default=None
        What is measured; the label of the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the lines.
    figure_ : matplotlib Figure
        Figure with the axes.
    lines_ : list of matplotlib Line2D
        One line a model, in the order of `scores`.

    Examples
    --------
    >>> from sklearn_recft.inspection import FewShotDisplay
    >>> display = FewShotDisplay(
    ...     shots=[0, 1, 5], scores={"bias": [1.0, 0.99, 0.97], "factors": [1.0, 0.98, 0.95]},
    ...     baselines=["bias"], metric="rmse",
    ... )
    >>> [line.get_label() for line in display.plot().lines_]
    ['bias', 'factors']
    """

    def __init__(self, *, shots, scores, intervals=None, baselines=(), baseline=None, metric=None):
        self.shots = shots
        self.scores = scores
        self.intervals = intervals
        self.baselines = baselines
        self.baseline = baseline
        self.metric = metric

    @classmethod
    def from_estimator(cls, estimator, X, y, *, metric=None, baseline=None, ax=None, **evaluation):
        """Evaluate a recommender, or several, for new users and draw the result.

        Parameters
        ----------
        estimator : recommender, or dict of str to recommender
        X : table of n rows
        y : array-like of shape (n,)
        metric, baseline, ax
            As in :meth:`from_result`.
        **evaluation : dict
            Passed on to :func:`~sklearn_recft.model_selection.few_shot_curve`.

        Returns
        -------
        FewShotDisplay
            Drawn.
        """
        result = few_shot_curve(estimator, X, y, **evaluation)
        return cls.from_result(result, metric=metric, baseline=baseline, ax=ax)

    @classmethod
    def from_result(cls, result, *, metric=None, baseline=None, ax=None, **line_kw):
        """Draw what a few-shot evaluation has shown.

        Parameters
        ----------
        result : FewShotResult
            What :func:`~sklearn_recft.model_selection.few_shot_curve` returned.
        metric : str, default=None
            One of `result.metrics`, for instance `"ndcg@5"`; None is the first of them.
        baseline : str, default=None
            One of `result.baselines`: draw differences to it, with their intervals. None draws the
            means.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        FewShotDisplay
            Drawn.

        Raises
        ------
        ValueError
            The result has no such metric or baseline.
        ImportError
            matplotlib is not installed.

        Examples
        --------
        >>> from sklearn_recft import BiasRecommender
        >>> from sklearn_recft.datasets import make_interactions
        >>> from sklearn_recft.inspection import FewShotDisplay
        >>> from sklearn_recft.model_selection import few_shot_curve
        >>> X, y = make_interactions(100, 30, 3000, random_state=0, return_X_y=True)
        >>> result = few_shot_curve(BiasRecommender(), X, y, shots=(0, 5), random_state=0)
        >>> FewShotDisplay.from_result(result, baseline="ridge").ax_.get_ylabel()
        'rmse, difference to ridge'
        """
        metric = result.metrics[0] if metric is None else metric
        if metric not in result.metrics:
            raise ValueError(f"metric must be one of {result.metrics}, got {metric!r}.")
        if baseline not in (None, *result.baselines):
            raise ValueError(f"baseline must be one of {result.baselines}, got {baseline!r}.")
        scores, intervals = dict(result.means[metric]), None
        if baseline is not None:
            compared = {
                name: values[baseline]
                for name, values in result.differences[metric].items()
                if name != baseline
            }
            scores = {name: values[:, 0] for name, values in compared.items()}
            intervals = {name: values[:, 1:] for name, values in compared.items()}
        display = cls(
            shots=result.shots,
            scores=scores,
            intervals=intervals,
            baselines=result.baselines,
            baseline=baseline,
            metric=metric,
        )
        return display.plot(ax, **line_kw)

    def plot(self, ax=None, **line_kw):
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        FewShotDisplay
            Itself, with `ax_`, `figure_` and `lines_`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        ax = new_axes(self) if ax is None else ax
        self.lines_ = []
        coloured = styles()
        for place, (name, scores) in enumerate(self.scores.items()):
            style = {"color": "0.55", "linestyle": ("--", ":", "-.")[place % 3], "linewidth": 1.2}
            if name not in self.baselines:
                style = next(coloured)
            (line,) = ax.plot(self.shots, scores, **{"label": name, **style, **line_kw})
            self.lines_.append(line)
            if self.intervals is not None and name not in self.baselines:
                low, high = np.asarray(self.intervals[name]).T
                ax.fill_between(self.shots, low, high, color=line.get_color(), alpha=0.15, lw=0)
        label = self.metric or "Score"
        if self.baseline is not None:
            ax.axhline(0.0, color="0.4", linewidth=1.0, zorder=0)
            label = f"{label}, difference to {self.baseline}"
        ax.set_xticks(self.shots)
        ax.set_xlabel("Events of the new user")
        ax.set_ylabel(label)
        ax.grid(visible=True, alpha=0.3)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
