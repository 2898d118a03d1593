"""By how much models differ from a baseline, and how sure that is: one row a model."""

import numpy as np

from sklearn_recft.inspection._style import new_axes, styles


class RecommenderComparisonDisplay:
    """Differences of several models to a baseline, with their intervals.

    Build it with :meth:`from_results`. A hollow point is a difference whose interval holds
    zero, a filled one a difference whose interval does not.

    Parameters
    ----------
    names : sequence of n_models str
        The models, best placed first; the baseline is not among them.
    differences : array-like of shape (n_models,)
        Score of each model minus that of the baseline.
    intervals : array-like of shape (n_models, 2)
        Lower and upper end of the interval of each difference.
    baseline : str, default=None
        Name of the baseline.
    metric : str, default=None
        What is measured.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the points, one row a model, from the top in the order of `names`.
    figure_ : matplotlib Figure
        Figure with the axes.
    bars_ : list of matplotlib ErrorbarContainer
        Point and interval of each model.

    Examples
    --------
    >>> from sklearn_recft.inspection import RecommenderComparisonDisplay
    >>> display = RecommenderComparisonDisplay(
    ...     names=["neighbours", "factors"],
    ...     differences=[0.010, 0.004],
    ...     intervals=[[0.006, 0.015], [-0.001, 0.009]],
    ...     baseline="popular",
    ...     metric="ndcg@10",
    ... )
    >>> display.plot().ax_.get_xlabel()
    'ndcg@10, difference to popular'
    """

    def __init__(self, *, names, differences, intervals, baseline=None, metric=None):
        self.names = names
        self.differences = differences
        self.intervals = intervals
        self.baseline = baseline
        self.metric = metric

    @classmethod
    def from_results(cls, result, *, metric=None, ax=None, **errorbar_kw):
        """Draw one metric of a comparison.

        Parameters
        ----------
        result : RecommenderComparison
            What :func:`~sklearn_recft.model_selection.compare_recommenders` returned.
        metric : str, default=None
            One of `result.metrics`, for instance `"ndcg@10"`; None is the first of them.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **errorbar_kw : dict
            Passed on to matplotlib's `errorbar`, for every model.

        Returns
        -------
        RecommenderComparisonDisplay
            Drawn, in the order of `result.table`.

        Raises
        ------
        ValueError
            There is nothing beside the baseline, or no such metric.
        ImportError
            matplotlib is not installed.

        Examples
        --------
        >>> from sklearn_recft import PopularityRecommender
        >>> from sklearn_recft.datasets import make_interactions
        >>> from sklearn_recft.inspection import RecommenderComparisonDisplay
        >>> from sklearn_recft.model_selection import compare_recommenders
        >>> X, _ = make_interactions(n_interactions=1000, random_state=0, return_X_y=True)
        >>> models = {"all": PopularityRecommender(), "month": PopularityRecommender(window=30)}
        >>> result = compare_recommenders(models, X, random_state=0)
        >>> RecommenderComparisonDisplay.from_results(result).names
        ['month']
        """
        metric = result.metrics[0] if metric is None else metric
        if metric not in result.metrics:
            raise ValueError(f"metric must be one of {result.metrics}, got {metric!r}.")
        rows = [row for row in result.table if row["estimator"] != result.baseline]
        if not rows:
            raise ValueError("result must hold at least one model beside the baseline.")
        display = cls(
            names=[row["estimator"] for row in rows],
            differences=[row[f"{metric}_difference"] for row in rows],
            intervals=[
                [row[f"{metric}_difference_{end}"] for end in ("low", "high")] for row in rows
            ],
            baseline=result.baseline,
            metric=metric,
        )
        return display.plot(ax, **errorbar_kw)

    def plot(self, ax=None, **errorbar_kw):
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **errorbar_kw : dict
            Passed on to matplotlib's `errorbar`, for every model.

        Returns
        -------
        RecommenderComparisonDisplay
            Itself, with `ax_`, `figure_` and `bars_`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        n = len(self.names)
        ax = new_axes(self, figsize=(6.4, 1.2 + 0.4 * n)) if ax is None else ax
        ax.axvline(0.0, color="0.4", linewidth=1.0, zorder=0)
        self.bars_ = []
        for place, style in zip(range(n), styles(), strict=False):
            middle, (low, high) = self.differences[place], self.intervals[place]
            options = {
                **style,
                "linestyle": "none",
                "markersize": 7.0,
                "capsize": 4.0,
                "markerfacecolor": "white" if low <= 0.0 <= high else style["color"],
                **errorbar_kw,
            }
            # A resampled interval can lie to one side of its point; lengths are never negative.
            lengths = np.maximum([[middle - low], [high - middle]], 0.0)
            self.bars_.append(ax.errorbar(middle, place, xerr=lengths, **options))
        ax.set_yticks(range(n), self.names)
        ax.set_ylim(n - 0.5, -0.5)
        ax.set_xlabel(f"{self.metric or 'Score'}, difference to {self.baseline or 'the baseline'}")
        ax.locator_params(axis="x", nbins=7)
        ax.grid(visible=True, axis="x", alpha=0.3)
        self.ax_, self.figure_ = ax, ax.figure
        return self
