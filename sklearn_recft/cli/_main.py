"""Parse, call one function, print."""

import argparse
import json
import os
import sys
import warnings
from importlib import import_module
from pathlib import Path
from time import perf_counter

from sklearn_recft import __version__
from sklearn_recft.cli._compare import busiest_user, compare, make_model, recommendations
from sklearn_recft.cli._log import DATASETS, read_log
from sklearn_recft.datasets import HeaderWarning
from sklearn_recft.inspection import PrequentialDisplay
from sklearn_recft.times import TimeUnitWarning

_EXAMPLES = """\
examples:
  recft demo                                     a year of grocery baskets, no network needed
  recft demo --dataset movielens-100k            film ratings
  recft demo --data log.csv --feedback rating    your own log
  recft evaluate log.parquet --json              how much does freshness matter in your log?
  recft recommend log.csv --user ann -n 5        five items for ann
  recft evaluate ratings.csv --columns user=userId,item=movieId,time=ts --feedback rating

A log is a text file (CSV, TSV, MovieLens' .dat; plain, .gz, .zip, .zst) or a Parquet file with the
columns user_id, item_id and, where you have them, timestamp (seconds since 1970, or dates), text
(what the item is called) and a feedback, named by --feedback. Without --feedback, every row is a
positive.

exit status: 0 done, 1 something is wrong with the data, 2 wrong usage
"""
_DEMO_PLOT = "recft-demo.png"
_PICTURES = (
    ".eps",
    ".jpeg",
    ".jpg",
    ".pdf",
    ".pgf",
    ".png",
    ".ps",
    ".svg",
    ".svgz",
    ".tif",
    ".tiff",
    ".webp",
)
_OF_A_FILE = ("columns", "sep", "encoding", "positive")
_WORTH_TELLING = (UserWarning, TimeUnitWarning, HeaderWarning)


def main(argv=None):
    r"""Run the console script.

    Parameters
    ----------
    argv : list of str, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0, or 1 if something is wrong with the data, reported in one line on the
        standard error stream. Wrong usage exits with 2.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sklearn_recft.cli import main
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = pathlib.Path(folder, "log.csv")
    ...     _ = log.write_text("user_id,item_id\nann,tea\nbob,tea\nbob,rye\ncem,rye\n")
    ...     main(["recommend", str(log), "--user", "ann"])
    Top 1 for user ann:
      1. rye
    0
    """
    parser = _parser()
    args = parser.parse_args(argv)
    if args.data is None and any(vars(args)[name] for name in (*_OF_A_FILE, "feedback", "repeat")):
        parser.error("--feedback, --repeat and how to read a file are about --data FILE")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            report = args.run(args)
        text = json.dumps(report, indent=2, allow_nan=False) if args.json else _as_text(report)
    except Exception as error:  # any error is reported in one line
        return _fail(error)
    except KeyboardInterrupt:
        sys.stderr.write("recft: interrupted\n")
        return 130
    if not args.quiet:
        _tell(caught)
    try:
        _write(text)
    except BrokenPipeError:  # as of `recft ... | head`; nothing more can be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(error)
    return 0


def _fail(error):
    message = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, (ImportError, OSError, ValueError)):
        message = f"{type(error).__name__}: {message}"
    sys.stderr.write(f"recft: error: {message}\n")
    return 1


def _tell(caught):
    """Say in one line each what a file was taken for, and the like."""
    messages = {" ".join(str(w.message).split()) for w in caught if w.category in _WORTH_TELLING}
    for text in sorted(messages):
        sys.stderr.write(f"recft: note: {text}\n")


def _write(text):
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------------- parse


def _parser():
    parser = argparse.ArgumentParser(
        prog="recft",
        description="Recommenders that keep learning: measure them on a log, or ask them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"recft {__version__}")
    commands = parser.add_subparsers(required=True, metavar="{demo,evaluate,recommend}")

    def add(name, run, about, *parents):
        command = commands.add_parser(
            name,
            help=about,
            description=f"{about.capitalize()}.",
            epilog=_EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=parents,
        )
        command.set_defaults(run=run)
        return command

    log, plot = _log_options(), _plot_option()
    demo = add("demo", _demo, "replay a log, compare models, recommend", log, plot)
    source = demo.add_mutually_exclusive_group()
    source.add_argument(
        "--dataset", choices=DATASETS, default="complete-journey", help="default: %(default)s"
    )
    source.add_argument("--data", metavar="FILE", help="your own log, CSV or Parquet")
    evaluate = add("evaluate", _evaluate, "replay a log and compare models", log, plot)
    evaluate.add_argument("data", metavar="FILE", help="a log, CSV or Parquet")
    recommend = add("recommend", _recommend, "learn a log and recommend to one user", log)
    recommend.add_argument("data", metavar="FILE", help="a log, CSV or Parquet")
    recommend.add_argument("--user", metavar="ID", required=True, help="whom to recommend to")
    recommend.add_argument(
        "-n", type=_positive, default=10, metavar="N", help="how many items; default: %(default)s"
    )
    return parser


def _log_options():
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--feedback", metavar="COLUMN", help="feedback in FILE; none: every row is a positive"
    )
    options.add_argument(
        "--positive",
        type=_labels,
        metavar="LABEL,...",
        help="labels of the feedback that count as 1, all others as 0: click",
    )
    options.add_argument(
        "--columns",
        type=_columns,
        metavar="ROLE=NAME,...",
        help="other names of columns: user=userId,item=movieId,time=ts,text=title; numbers from 0 "
        "where FILE has no header",
    )
    options.add_argument("--sep", metavar="TEXT", help="what separates columns; default: as found")
    options.add_argument("--encoding", metavar="NAME", help="of FILE; default: utf-8")
    options.add_argument(
        "--repeat",
        action="store_true",
        help="users of FILE take the same item again, so do not leave it out",
    )
    options.add_argument("--json", action="store_true", help="print one JSON document only")
    options.add_argument("--quiet", action="store_true", help="show no progress")
    return options


def _plot_option():
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--plot", type=_output, metavar="PATH", help=f"picture of the scores; demo: {_DEMO_PLOT}"
    )
    return options


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _labels(text):
    return [label.strip() for label in text.split(",")]


def _columns(text):
    pairs = [part.partition("=") for part in text.split(",")]
    roles = [role.strip() for role, _, _ in pairs]
    if not all(name for _, _, name in pairs) or len(set(roles)) < len(roles):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not of the form user=NAME,item=NAME,time=NAME"
        )
    return {role.strip(): name.strip() for role, _, name in pairs}


def _output(text):
    path = Path(text)
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder of {text!r} does not exist")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder")
    if path.suffix.lower() not in _PICTURES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no picture: its name must end in one of {', '.join(_PICTURES)}"
        )
    return text


# ---------------------------------------------------------------------- call one function


def _demo(args):
    clock = perf_counter()
    if args.plot:
        _check_can_plot()
    log = DATASETS[args.dataset]() if args.data is None else _read(args)
    report, results = compare(log, quiet=args.quiet)
    model = results["incremental"].estimator
    report["recommendations"] = recommendations(model, log, busiest_user(log), 10)
    try:
        report["plot"] = _plot(results, args.plot or _DEMO_PLOT)
    except ImportError as error:
        if args.plot:
            raise
        report["plot"] = None
        sys.stderr.write(f"recft: no plot: {error}\n")
    return report | {"seconds": perf_counter() - clock}


def _evaluate(args):
    clock = perf_counter()
    if args.plot:
        _check_can_plot()
    report, results = compare(_read(args), quiet=args.quiet)
    report["plot"] = _plot(results, args.plot) if args.plot else None
    return report | {"seconds": perf_counter() - clock}


def _recommend(args):
    log = _read(args)
    user = log.user(args.user)
    found = recommendations(make_model(log).fit(log.X, log.y), log, user, args.n)
    if not found["items"]:
        raise ValueError(f"User {args.user} has had every item; --repeat recommends them again.")
    return {"log": log.name, "recommendations": found}


def _read(args):
    given = {name: vars(args)[name] for name in _OF_A_FILE if vars(args)[name]}
    return read_log(args.data, args.feedback, args.repeat, **given)


def _check_can_plot():
    """Fail before a long replay, not after it."""
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise ImportError("--plot needs matplotlib: pip install 'sklearn-recft[plot]'") from error


def _plot(results, path):
    os.environ.setdefault("MPLBACKEND", "Agg")  # draw into the file, open no window
    PrequentialDisplay.from_results(results).figure_.savefig(path, dpi=150)
    return path


# ---------------------------------------------------------------------- print


def _as_text(report):
    parts = []
    if "models" in report:
        parts += [_overview(report), _table(report["models"])]
    if "recommendations" in report:
        parts.append(_list(report["recommendations"]))
    if report.get("plot"):
        parts.append(f"Scores over time: {report['plot']}")
    if "seconds" in report:
        parts.append(f"{report['seconds']:.0f} s in all.")
    return "\n\n".join(parts)


def _overview(report):
    start, split, end = report["dates"]
    when = f" from {start} to {end}" if start else ""
    until = f" (until {split})" if split else ""
    return (
        f"{report['log']}: {report['n_events']:,} events of {report['n_users']:,} users with "
        f"{report['n_items']:,} items{when}.\nThe first {report['n_learned_first']:,}{until} "
        f"are learned at once, the rest in {report['n_steps']} steps: predict, score, learn."
    )


def _table(models):
    heads = [name.replace("_seconds", " s") for name in models[0]]
    rows = [[_cell(name, value) for name, value in model.items()] for model in models]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for first, *others in [heads, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _cell(name, value):
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.1f}" if name.endswith("_seconds") else f"{value:.4f}"


def _list(found):
    new = "" if found["known"] else " (unknown, so anybody's)"
    lines = [f"Top {len(found['items'])} for user {found['user']}{new}:"]
    for rank, item in enumerate(found["items"], 1):
        title = f"  {item['title']}" if item["title"] else ""
        lines.append(f"{rank:>3}. {item['item_id']}{title}")
    return "\n".join(lines)
