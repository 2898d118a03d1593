"""Each shipped alert is fired by figures that are bad, and by none that are good."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from sklearn_recft.serving._metrics import Metrics

RULES = files("sklearn_recft.serving").joinpath("alerts.yml").read_text(encoding="utf-8")
ALERTS = dict(
    re.findall(r"- alert: (\w+)\n +expr: (.+)\n +for: \w+\n +labels: .+\n +annotations: ", RULES)
)
GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "service.rst"
GOOD = {
    "ready": 1, "lag": 30, "snapshot_age": 3600, "drift": 1.02, "calibration_gap": 0.05,
    "unknown_items": 0.1, "unknown_users": 0.9, "rejected": 2, "guard_refused": 1,
    "guard_promoted": 19, "forget_pending": 0, "waiting_events": 20, "waiting_reads": 600,
}  # fmt: skip
BAD = {
    "RecftNotReady": {"ready": 0},
    "RecftLearningLags": {"lag": 20_000},
    "RecftSnapshotStale": {"snapshot_age": 200_000},
    "RecftLossRises": {"drift": 1.4},
    "RecftNotCalibrated": {"calibration_gap": 0.3},
    "RecftUnknownItems": {"unknown_items": 0.8},
    "RecftEventsRejected": {"rejected": 1000},
    "RecftForgetPending": {"forget_pending": 1},
    "RecftGuardRefuses": {"guard_refused": 5},
    "RecftQueueFull": {"waiting_events": 900},
}


def fired(figures):
    """Return the alerts whose condition holds on the page of a service with these figures."""
    page = Metrics([], lambda: figures).text()[0].decode()
    found = set()
    for name, rule in ALERTS.items():
        series, operator, bound = rule.split(" ") if rule.count(" ") == 2 else _split(rule)
        values = re.findall(rf"^{re.escape(series)} (\S+)$", page, flags=re.MULTILINE)
        assert operator in "<>"
        below = [float(value) < float(bound) for value in values]
        above = [float(value) > float(bound) for value in values]
        if any(below if operator == "<" else above):
            found.add(name)
    return found


def _split(rule):
    series, operator, bound = re.fullmatch(r"(\S+\{.+\}) ([<>]) (\S+)", rule).groups()
    return series, operator, bound


def test_every_rule_is_read_and_tested():
    assert RULES.count("- alert:") == len(ALERTS) == len(BAD)
    assert set(ALERTS) == set(BAD)


def test_good_figures_fire_no_alert():
    assert fired(GOOD) == set()


def test_figures_that_are_not_known_yet_fire_no_alert():
    assert fired({"ready": 1, "drift": float("nan")}) == set()


@pytest.mark.parametrize("alert", BAD)
def test_bad_figures_fire_one_alert(alert):
    assert fired(GOOD | BAD[alert]) == {alert}


@pytest.mark.parametrize("alert", BAD)
def test_the_runbook_has_every_alert(alert):
    assert f"``{alert}``" in GUIDE.read_text(encoding="utf-8")
