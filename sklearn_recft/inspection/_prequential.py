"""Quality over time: one line a model, each score measured before its rows were learned."""

import numpy as np

from sklearn_recft.inspection._style import label_ends, new_axes, styles

_MARKERS_PER_LINE = 12


class PrequentialDisplay:
    """Quality of several models over time, each score measured before its rows were learned.

    Build it with :meth:`from_results`.

    Parameters
    ----------
    times : dict of str to array-like of shape (n_steps,)
        Time of each step in seconds since 1970, or its number, for each model.
    scores : dict of str to array-like of shape (n_steps,)
        Score of each step for each model.
    metric : str, default=None
        What is measured; the label of the vertical axis.
    are_dates : bool, default=True
        Whether `times` are seconds since 1970.

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
    >>> from sklearn_recft.inspection import PrequentialDisplay
    >>> weeks = [1483228800, 1483833600, 1484438400]
    >>> display = PrequentialDisplay(
    ...     times={"fresh": weeks, "static": weeks},
    ...     scores={"fresh": [0.11, 0.12, 0.12], "static": [0.11, 0.10, 0.08]},
    ...     metric="ndcg@10",
    ... )
    >>> [line.get_label() for line in display.plot().lines_]
    ['fresh', 'static']
    """

    def __init__(self, *, times, scores, metric=None, are_dates=True):
        self.times = times
        self.scores = scores
        self.metric = metric
        self.are_dates = are_dates

    @classmethod
    def from_results(cls, results, *, metric=None, ax=None, **line_kw):
        """Plot the results of prequential evaluations on the same log.

        Parameters
        ----------
        results : dict
            Name of the model to what
            :func:`~sklearn_recft.model_selection.prequential_score` returned, or to the list of
            steps of :func:`~sklearn_recft.model_selection.iter_prequential`.
        metric : str, default=None
            One of the metrics of the steps, for instance `"ndcg@10"`; None is the first of them.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        PrequentialDisplay
            Drawn, each score at the time of the last event it is about; by the number of the step
            if there are no times.

        Raises
        ------
        ValueError
            There is nothing to draw, or a model lacks the metric.
        ImportError
            matplotlib is not installed.

        Examples
        --------
        >>> from sklearn.dummy import DummyRegressor
        >>> from sklearn_recft.datasets import make_interactions
        >>> from sklearn_recft.inspection import PrequentialDisplay
        >>> from sklearn_recft.model_selection import prequential_score
        >>> log = make_interactions(500, random_state=0)
        >>> results = {
        ...     how: prequential_score(
        ...         DummyRegressor(), log.data, log.target, warm_up=0.5, period=30, learn=how
        ...     )
        ...     for how in ("never", "refit")
        ... }
        >>> PrequentialDisplay.from_results(results, metric="rmse").ax_.get_ylabel()
        'rmse'
        """
        steps = {name: list(getattr(result, "steps", result)) for name, result in results.items()}
        if not steps or not all(steps.values()):
            raise ValueError("results must hold at least one model, each with at least one step.")
        if metric is None:
            metric = next(iter(next(iter(steps.values()))[0].metrics))
        for name, of_model in steps.items():
            if metric not in of_model[0].metrics:
                raise ValueError(
                    f"{name!r} has no metric {metric!r}; it has {sorted(of_model[0].metrics)}."
                )
        times = {name: [step.last_timestamp for step in s] for name, s in steps.items()}
        are_dates = all(np.isfinite(t).all() for t in times.values())
        if not are_dates:
            times = {name: range(1, len(s) + 1) for name, s in steps.items()}
        scores = {name: [step.metrics[metric] for step in s] for name, s in steps.items()}
        display = cls(times=times, scores=scores, metric=metric, are_dates=are_dates)
        return display.plot(ax, **line_kw)

    def plot(self, ax=None, *, title=None, from_zero=False, **line_kw):
        """Draw the lines, each with its name at its end.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        title : str, default=None
            Title of the axes.
        from_zero : bool, default=False
            Whether the vertical axis starts at zero.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        PrequentialDisplay
            Itself, with `ax_`, `figure_` and `lines_`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        ax = new_axes(self) if ax is None else ax
        from matplotlib import dates

        self.lines_ = []
        for i, (name, style) in enumerate(zip(self.scores, styles(), strict=False)):
            times = np.asarray(self.times[name])
            if self.are_dates:
                times = times.astype("datetime64[s]")
            # Every line carries about as many markers, none in the places of the line before it.
            step = max(1, len(times) // _MARKERS_PER_LINE)
            options = {"label": name, "markevery": (i % step, step), **style, **line_kw}
            self.lines_ += ax.plot(times, self.scores[name], **options)
        if self.are_dates:
            locator = dates.AutoDateLocator(minticks=3, maxticks=8)
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        ax.set_xlabel("Time" if self.are_dates else "Step")
        ax.set_ylabel(self.metric or "Score")
        ax.grid(visible=True, alpha=0.3)
        if from_zero:
            ax.set_ylim(bottom=0.0)
        if title is not None:
            ax.set_title(title, loc="left")
        label_ends(ax, self.lines_)
        self.ax_, self.figure_ = ax, ax.figure
        return self
