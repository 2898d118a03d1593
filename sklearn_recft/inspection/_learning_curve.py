"""Quality by number of events: one line per model, all evaluated on the same later rows."""

import numpy as np

from sklearn_recft.inspection._style import new_axes, styles


class LearningCurveDisplay:
    """Quality of several models against the number of events they have learned.

    Build it with :meth:`from_results`.

    Parameters
    ----------
    n_events : dict of str to array-like of shape (n_points,)
        Events learned at each point, for each model.
    scores : dict of str to array-like of shape (n_points,)
        Score at each point, for each model.
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
    >>> from sklearn_recft.inspection import LearningCurveDisplay
    >>> display = LearningCurveDisplay(
    ...     n_events={"popular": [100, 1000], "factors": [100, 1000]},
    ...     scores={"popular": [0.10, 0.11], "factors": [0.08, 0.13]},
    ...     metric="ndcg@10",
    ... )
    >>> [line.get_label() for line in display.plot().lines_]
    ['popular', 'factors']
    """

    def __init__(self, *, n_events, scores, metric=None):
        self.n_events = n_events
        self.scores = scores
        self.metric = metric

    @classmethod
    def from_results(cls, results, *, metric=None, log_scale=True, ax=None, **line_kw):
        """Draw what learning curves on the same log have shown.

        Parameters
        ----------
        results : dict
            Name of the model to what
            :func:`~sklearn_recft.model_selection.learning_curve_by_events` returned.
        metric : str, default=None
            One of the metrics of the results, for instance `"ndcg@10"`; None is the first of them.
        log_scale : bool, default=True
            Whether events are drawn on a logarithmic axis.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        LearningCurveDisplay
            Drawn.

        Raises
        ------
        ValueError
            There is nothing to draw, or a model lacks the metric.
        ImportError
            matplotlib is not installed.

        Examples
        --------
        >>> from sklearn_recft import PopularityRecommender
        >>> from sklearn_recft.datasets import make_interactions
        >>> from sklearn_recft.inspection import LearningCurveDisplay
        >>> from sklearn_recft.model_selection import learning_curve_by_events
        >>> X, _ = make_interactions(n_interactions=1000, random_state=0, return_X_y=True)
        >>> models = {"all": PopularityRecommender(), "month": PopularityRecommender(window=30)}
        >>> results = {name: learning_curve_by_events(model, X) for name, model in models.items()}
        >>> LearningCurveDisplay.from_results(results).ax_.get_xlabel()
        'Events learned'
        """
        if not results:
            raise ValueError("results must hold at least one model.")
        if metric is None:
            metric = next(iter(next(iter(results.values())).metrics))
        for name, result in results.items():
            if metric not in result.metrics:
                raise ValueError(
                    f"{name!r} has no metric {metric!r}; it has {sorted(result.metrics)}."
                )
        display = cls(
            n_events={name: result.n_events for name, result in results.items()},
            scores={name: result.metrics[metric] for name, result in results.items()},
            metric=metric,
        )
        return display.plot(ax, log_scale=log_scale, **line_kw)

    def plot(self, ax=None, *, log_scale=True, **line_kw):
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        log_scale : bool, default=True
            Whether events are drawn on a logarithmic axis.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        LearningCurveDisplay
            Itself, with `ax_`, `figure_` and `lines_`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        ax = new_axes(self) if ax is None else ax
        self.lines_ = []
        for (name, scores), style in zip(self.scores.items(), styles(), strict=False):
            self.lines_ += ax.plot(
                np.asarray(self.n_events[name]), scores, **{"label": name, **style, **line_kw}
            )
        if log_scale:
            ax.set_xscale("log")
        ax.set_xlabel("Events learned")
        ax.set_ylabel(self.metric or "Score")
        ax.grid(visible=True, alpha=0.3)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
