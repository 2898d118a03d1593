"""Settings from a command line: what they become, and how they are merged."""

import argparse

import pytest

from benchmarks.common import params
from sklearn_recft import FineTuning, RealtimeTransformerRecommender


def test_nested_settings_are_merged_by_their_own_names():
    first = {"max_epochs": 3, "training": {"warmup": 0.2, "clip": 2.0}}
    later = {"training": {"clip": 3.0}, "net_params": {"batch_size": 64}}
    found = params.merged(first, later, {"width": 8})
    assert found == {
        "max_epochs": 3, "width": 8, "training": {"warmup": 0.2, "clip": 3.0},
        "net_params": {"batch_size": 64},
    }  # fmt: skip
    assert first["training"]["clip"] == 2.0


def test_a_command_line_sets_constructor_parameters():
    parser = argparse.ArgumentParser()
    params.add_params_option(parser)
    text = '{"width": 8, "training": {"learning_rate": 0.01}, "net_params": {"batch_size": 64}}'
    setting = parser.parse_args(["--params", text]).params
    model = RealtimeTransformerRecommender(**params.constructor_params(setting))
    assert isinstance(model.training, FineTuning)
    assert (model.width, model.training.learning_rate) == (8, 0.01)
    assert model.net_params == {"batch_size": 64}
    assert parser.parse_args([]).params == {}
    assert "FineTuning" in parser.format_help()


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_what_is_no_object_is_refused(text, capsys):
    parser = argparse.ArgumentParser()
    params.add_params_option(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--params", text])
    assert "JSON" in capsys.readouterr().err


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="lr"):
        params.constructor_params({"training": {"lr": 0.01}})
