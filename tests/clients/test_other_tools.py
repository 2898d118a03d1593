"""The sections of the guide's page on other tools run, each where its tool is installed."""

import doctest
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "other_tools.rst"
# A section follows a comment that names the modules it needs.
INTRODUCTION, *_PARTS = re.split(r"^\.\. needs: (.+)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)
SECTIONS = list(zip(_PARTS[::2], _PARTS[1::2], strict=True))


@pytest.mark.parametrize(("needs", "section"), SECTIONS, ids=[needs for needs, _ in SECTIONS])
@pytest.mark.filterwarnings("default")  # those of the tools are for the tools
def test_a_section_runs(needs, section, tmp_path, monkeypatch):
    for module in needs.split():
        pytest.importorskip(module, reason=f"{module} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/runs")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert run(INTRODUCTION + section) == ""


def run(text):
    """Run the examples in a text, and return what differs from it."""
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, PAGE.name, None, 0)
    assert test.examples
    found = []
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(verbose=False, optionflags=options).run(test, out=found.append)
    return "".join(found)


def test_every_section_with_code_names_its_tool():
    titles = re.findall(r"^-{5,}$", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    assert len(titles) == len(SECTIONS) > 5


def test_a_difference_is_found():
    assert "Got:\n    2" in run(">>> 1 + 1\n3\n")
