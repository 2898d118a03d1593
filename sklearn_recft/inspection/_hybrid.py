"""Weights of a blend over time: whom it trusts."""

import numpy as np

from sklearn_recft.inspection._style import label_ends, new_axes, styles

_MARKERS_PER_LINE = 12


class HybridDisplay:
    """Weights of a blend of recommenders over time, one line per feature or member.

    Build it with :meth:`from_estimator`.

    Parameters
    ----------
    times : array-like of shape (n_chunks,)
        Time of each chunk in seconds since 1970, or its number.
    values : dict of str to array-like of shape (n_chunks,)
        Values of each chunk by name.
    are_dates : bool, default=True
        Whether `times` are seconds since 1970.
    ylabel : str, default="Weight"
        Label of the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the lines.
    figure_ : matplotlib Figure
        Figure with the axes.
    lines_ : list of matplotlib Line2D
        One line per name, in the order of `values`.

    Examples
    --------
    >>> from sklearn_recft.inspection import HybridDisplay
    >>> display = HybridDisplay(
    ...     times=[1, 2, 3],
    ...     values={"rank of ease": [0.5, 0.7, 0.8], "rank of popular": [0.5, 0.4, 0.4]},
    ...     are_dates=False,
    ... )
    >>> [line.get_label() for line in display.plot().lines_]
    ['rank of ease', 'rank of popular']
    """

    def __init__(self, *, times, values, are_dates=True, ylabel="Weight"):
        self.times = times
        self.values = values
        self.are_dates = are_dates
        self.ylabel = ylabel

    @classmethod
    def from_estimator(cls, estimator, *, show="rank", ax=None, **line_kw):
        """Plot the log of weights of a fitted :class:`~sklearn_recft.AdaptiveRecommender`.

        Parameters
        ----------
        estimator : AdaptiveRecommender
            Fitted, with at least one chunk in its ``weights_log_``.
        show : {"rank", "score", "item", "ndcg"}, default="rank"
            Mean weights of the members' ranks or standardized scores, weights of the features of
            items, or NDCG@10 of the blend and of each member.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure. The names stand right of the axes: make a figure
            of your own with ``layout="constrained"``, so that there is room.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        HybridDisplay
            Drawn, each value at the time of the last event of its chunk; by the number of the chunk
            if there are no times.

        Raises
        ------
        ValueError
            `show` is unknown, or there is nothing to draw.
        ImportError
            matplotlib is not installed.

        Examples
        --------
        >>> from sklearn_recft import AdaptiveRecommender, EASERecommender, PopularityRecommender
        >>> from sklearn_recft.datasets import make_interactions
        >>> from sklearn_recft.inspection import HybridDisplay
        >>> X = make_interactions(50, 30, 800, random_state=0).data
        >>> members = [("popular", PopularityRecommender()), ("ease", EASERecommender())]
        >>> model = AdaptiveRecommender(members).fit(X)
        >>> HybridDisplay.from_estimator(model, show="ndcg").ax_.get_ylabel()
        'NDCG@10'
        """
        log = estimator.weights_log_
        starts = {"rank": "rank of ", "score": "score of ", "ndcg": "ndcg@10 of "}
        if show == "item":
            others = ("time", "n_queries", *starts.values())
            chosen = {name: v for name, v in log.items() if not name.startswith(others[2:])}
            chosen = {name: v for name, v in chosen.items() if name not in others[:2]}
        elif show in starts:
            chosen = {name: v for name, v in log.items() if name.startswith(starts[show])}
        else:
            raise ValueError(f"show={show!r}: choose 'rank', 'score', 'item' or 'ndcg'.")
        if not chosen or not len(log["time"]):
            raise ValueError(
                "The estimator has logged nothing to draw; call partial_fit first, or set context."
            )
        are_dates = bool(np.isfinite(log["time"]).all())
        times = log["time"] if are_dates else np.arange(1, len(log["time"]) + 1)
        ylabel = "NDCG@10" if show == "ndcg" else "Mean weight"
        display = cls(times=times, values=chosen, are_dates=are_dates, ylabel=ylabel)
        return display.plot(ax, **line_kw)

    def plot(self, ax=None, *, title=None, **line_kw):
        """Draw the lines, each with its name at its end.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        title : str, default=None
            Title of the axes.
        **line_kw : dict
            Passed on to matplotlib's `plot`, for every line.

        Returns
        -------
        HybridDisplay
            Itself, with `ax_`, `figure_` and `lines_`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        ax = new_axes(self) if ax is None else ax
        from matplotlib import dates

        times = np.asarray(self.times)
        if self.are_dates:
            times = times.astype("datetime64[s]")
        step = max(1, len(times) // _MARKERS_PER_LINE)
        self.lines_ = []
        for i, (name, style) in enumerate(zip(self.values, styles(), strict=False)):
            options = {"label": name, "markevery": (i % step, step), **style, **line_kw}
            self.lines_ += ax.plot(times, self.values[name], **options)
        if self.are_dates:
            locator = dates.AutoDateLocator(minticks=3, maxticks=8)
            ax.xaxis.set_major_locator(locator)
            ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        ax.set_xlabel("Time" if self.are_dates else "Chunk")
        ax.set_ylabel(self.ylabel)
        ax.grid(visible=True, alpha=0.3)
        if title is not None:
            ax.set_title(title, loc="left")
        label_ends(ax, self.lines_)
        self.ax_, self.figure_ = ax, ax.figure
        return self
