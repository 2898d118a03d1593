"""Settings of estimators as plain data, which a command line and a JSON file can hold."""

import argparse
import json
from typing import Any

NESTED = ("net_params", "training")
HELP = """constructor parameters of the model as JSON; a nested "training" holds options of
FineTuning, a nested "net_params" names of skorch, for example
'{"max_epochs": 6, "training": {"learning_rate": 0.001}, "net_params": {"batch_size": 512}}'"""


def add_params_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--params``, whose value is a setting."""
    parser.add_argument("--params", type=setting_of, default={}, metavar="JSON", help=HELP)


def setting_of(text: str) -> dict[str, Any]:
    """Parse a JSON object of parameters."""
    try:
        setting = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"no JSON: {error}") from error
    if not isinstance(setting, dict):
        raise argparse.ArgumentTypeError(f"a JSON object is needed, given is {text}")
    return setting


def merged(*settings: dict[str, Any]) -> dict[str, Any]:
    """Merge settings, the later over the earlier; nested dicts are merged by their own names."""
    found: dict[str, Any] = {}
    for setting in settings:
        nested = {name: found.get(name, {}) | setting[name] for name in NESTED if name in setting}
        found |= setting | nested
    return found


def constructor_params(setting: dict[str, Any]) -> dict[str, Any]:
    """Convert a setting to constructor parameters: ``training`` becomes a `FineTuning`."""
    if "training" not in setting:
        return dict(setting)
    from sklearn_recft import FineTuning  # a worker of another library may not have this package

    return setting | {"training": FineTuning(**setting["training"])}
