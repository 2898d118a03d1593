"""What a command line may say."""

import argparse
from pathlib import Path

from sklearn_recft import __version__
from sklearn_recft.cli._candidates import find_candidates
from sklearn_recft.cli._log import DATASETS
from sklearn_recft.cli._saved import TABLES
from sklearn_recft.cli._serve import add_service
from sklearn_recft.cli._warm_up import add_warm_up

_EXAMPLES = """\
  recft demo                                     a year of grocery baskets, no network needed
  recft demo --dataset movielens-100k            film ratings
  recft evaluate log.csv                         does learning pay in your log?
  recft evaluate log.csv --feedback rating       ratings, or clicks of 0 and 1
  recft evaluate log.csv --models "popularity,MF with habits"
  recft evaluate ratings.csv --columns user=userId,item=movieId,time=ts --feedback rating
  recft recommend log.csv --user ann -n 5        five items for ann
  recft recommend --model model --user ann       ten items, and nothing is fitted
  recft save log.csv model                       learn once, and save the model
  recft inspect model                            what it has learned, and its parameters
  recft compress model small                     factors in 8 bits: a quarter of their bytes
  recft serve --demo                             a service that learns from clicks
  recft keys add keys.json                       a key for `recft serve --keys keys.json`
  recft rekey --store-key-file old.key --new-key-file new.key
  recft warm-up                                  compile at installation, not at the first call
""".splitlines()
_LOG = """
A log is a text file (CSV, TSV, MovieLens' .dat; plain, .gz, .zip, .zst) or a Parquet file with the
columns user_id, item_id and, where you have them, timestamp (seconds since 1970, or dates), text
(what the item is called) and a feedback, named by --feedback. Without --feedback, every row is a
positive.
"""
_STATUS = "\nexit status: 0 done, 1 something is wrong with the data, 2 wrong usage\n"
# What describes a log, and nothing else.
OF_A_LOG = (
    "columns",
    "decimal",
    "encoding",
    "feedback",
    "positive",
    "sep",
    "time_format",
    "time_unit",
)
DEMO_PLOT = "recft-demo.png"
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


def _epilog(name=None, reads_log=True):
    """Return examples of one command, or of all, and what a log is."""
    examples = [line for line in _EXAMPLES if name is None or line.split()[1] == name]
    return "\n".join(["examples:", *examples, *[_LOG] * reads_log, _STATUS])


def make_parser(demo, evaluate, recommend, save, inspect, compress):
    """Make the parser of the command line; its commands run the functions."""
    parser = argparse.ArgumentParser(
        prog="recft",
        description="Recommenders that keep learning: evaluate, recommend, save and serve.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"recft {__version__}")
    commands = parser.add_subparsers(
        required=True,
        metavar="{demo,evaluate,recommend,save,inspect,compress,serve,rekey,keys,warm-up}",
    )

    log, output, plot = _log_options(), _output_options(), _plot_option()
    key = _key_option()

    def add(name, run, about, *parents):
        command = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=_epilog(name, reads_log=log in parents),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=parents,
        )
        command.set_defaults(run=run)
        return command

    command = add("demo", demo, "show on a known log that learning pays", output, plot)
    command.add_argument(
        "--dataset", choices=DATASETS, default="complete-journey", help="default: %(default)s"
    )
    command = add("evaluate", evaluate, "follow a log and compare models", log, output, plot)
    command.add_argument("data", metavar="FILE", help="a log, CSV or Parquet")
    command.add_argument(
        "--models",
        type=_models,
        metavar="NAME,...",
        help="compare these models only, for example: popularity,MF with habits; default: those "
        "that suit the log",
    )
    command.add_argument("--deep", action="store_true", help="also train the two neural models")
    command = add("recommend", recommend, "learn a log and recommend to one user", log, output, key)
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("data", metavar="FILE", nargs="?", help="a log, CSV or Parquet")
    source.add_argument(
        "--model", metavar="DIR", help="a model of `recft save`; nothing is fitted then"
    )
    command.add_argument("--user", metavar="ID", required=True, help="whom to recommend to")
    command.add_argument(
        "-n", type=_positive, default=10, metavar="N", help="how many items; default: %(default)s"
    )
    command = add("save", save, "learn a log and save the model", log, output, key)
    command.add_argument("data", metavar="FILE", help="a log, CSV or Parquet")
    command.add_argument("folder", metavar="DIR", help="a new folder, or one of an earlier save")
    command = add("inspect", inspect, "describe a saved model", output, key)
    command.add_argument("folder", metavar="DIR", help="the folder of a saved model")
    command = add("compress", compress, "save a smaller copy of a saved model", output, key)
    command.add_argument("folder", metavar="SRC", help="the folder of a saved model")
    command.add_argument("to", metavar="DST", help="a new folder, or one of an earlier save")
    command.add_argument(
        "--tables",
        choices=TABLES,
        default="int8",
        help="numbers of the tables of factors; default: %(default)s",
    )
    add_service(add, output)
    add_warm_up(add, output)
    return parser


def check_usage(parser, args):
    """Stop if options were given that the command would ignore."""
    if not {"model", "columns"} <= vars(args).keys():  # only `recft recommend` has both
        return
    given = [name for name in OF_A_LOG if vars(args)[name] is not None]
    if args.model is not None and given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        parser.error(f"{options}: --model reads no log; leave out what describes one")
    if args.model is None and args.key_file is not None:
        parser.error("--key-file: a log is not encrypted; it is the key of --model")


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
        "--decimal",
        choices=[".", ","],
        metavar="MARK",
        help="a point or a comma, before the decimals of feedback; default: a point",
    )
    options.add_argument(
        "--time-unit",
        choices=["s", "ms", "us", "ns"],
        help="of times since 1970; default: as found",
    )
    options.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="of times such as 20.09.1997 03:05: %%d.%%m.%%Y %%H:%%M; default: ISO dates",
    )
    options.add_argument(
        "--repeat",
        action=argparse.BooleanOptionalAction,
        help="lists may hold items the user has taken before; default: if FILE has many repeats",
    )
    return options


def _key_option():
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--key-file",
        metavar="FILE",
        help="a file with the key of an encrypted model, 16 bytes or more; needs cryptography",
    )
    return options


def _output_options():
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--json", action="store_true", help="print one JSON document only")
    options.add_argument("--quiet", action="store_true", help="show no progress")
    return options


def _plot_option():
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--plot",
        type=_output,
        metavar="PATH",
        help=f"file for a picture of the scores; default of demo: {DEMO_PLOT}",
    )
    return options


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _models(text):
    try:
        return find_candidates(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
