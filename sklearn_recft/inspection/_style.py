"""How models are told apart, in print and without seeing colours."""

import itertools

# The palette of Okabe and Ito, which colour-blind readers can tell apart, darkest first.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def styles():
    """Yield line styles without end; colours, dashes and markers turn at their own pace."""
    turning = zip(
        itertools.cycle(_COLOURS), itertools.cycle(_LINES), itertools.cycle(_MARKERS), strict=False
    )
    for colour, line, marker in turning:
        yield {"color": colour, "linestyle": line, "marker": marker, "markersize": 4.5}


def new_axes(display, **subplot_kw):
    """Make a figure with one pair of axes; say which extra is missing where that fails."""
    try:
        from matplotlib import pyplot
    except ImportError as exc:
        raise ImportError(
            f"{type(display).__name__}.plot needs matplotlib: pip install 'sklearn-recft[plot]'"
        ) from exc
    return pyplot.subplots(layout="constrained", **subplot_kw)[1]
