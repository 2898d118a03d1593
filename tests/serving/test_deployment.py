"""The command line of the service, and the files for containers that use it."""

import json
import re
import shlex
from pathlib import Path

import pytest

from sklearn_recft import PopularityRecommender, cli, persistence
from sklearn_recft.cli import _serve
from sklearn_recft.serving import KeyFile

FOLDER = Path(__file__).parents[2] / "docs" / "deployment"
ROOT = FOLDER.parents[1]


def run(*argv):
    return cli.main([str(one) for one in argv])


@pytest.fixture
def served(monkeypatch):
    """Put a stand-in in the place of the server; return what it was given."""
    from sklearn_recft.serving import _server

    made = []

    class Server:
        def run(self):
            from starlette.testclient import TestClient

            made[-1]["paths"] = [
                TestClient(made[-1]["app"], base_url="http://127.0.0.1", client=("127.0.0.1", 1))
                .get(path).status_code
                for path in ("/health/live", "/v1/models")
            ]  # fmt: skip

    def make_server(app, **options):
        _server.make_server(None, **options)
        made.append({"app": app, **options})
        return Server()

    monkeypatch.setattr("sklearn_recft.serving.make_server", make_server, raising=False)
    return made


def test_keys_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "keys.json"
    assert run("keys", "add", path, "--scopes", "metrics:read", "--name", "prom", "--json") == 0
    key = json.loads(capsys.readouterr().out)["key"]
    keys = KeyFile(path)
    assert keys.verify(key).scopes == {"metrics:read"}
    assert run("keys", "rotate", path, keys.list()[0].id) == 0
    assert capsys.readouterr().out.startswith("recft_")
    assert run("keys", "revoke", path, keys.list()[0].id) == 0
    capsys.readouterr()
    assert run("keys", "list", path) == 0
    out = capsys.readouterr().out
    assert re.findall(r" (valid|ended) ", out) == ["ended", "valid"]
    assert "prom" in out
    assert key not in out
    for wrong in (("revoke", path), ("revoke", path, "abc"), ("add", path, "--scopes", "root")):
        assert run("keys", *wrong) == 1
        assert capsys.readouterr().err.startswith("recft: error: ")


def test_a_saved_model_is_served(tmp_path, served, capsys):
    persistence.save(PopularityRecommender().fit([["a", 1], ["b", 2]]), tmp_path / "model")
    folder = tmp_path / "service"
    assert run("serve", "--model", tmp_path / "model", "--folder", folder, "--port", 0) == 0
    assert served[-1]["host"] == "127.0.0.1"
    assert served[-1]["paths"][0] == 200
    assert (folder / "feedback.db").is_file()
    KeyFile(tmp_path / "keys.json").add(["model:admin"])
    run("serve", "--model", tmp_path / "model", "--folder", folder, "--host", "0.0.0.0",
        "--keys", tmp_path / "keys.json", "--rates", "events:write=5/second")  # fmt: skip
    assert served[-1]["host"] == "0.0.0.0"
    assert served[-1]["secured"]
    assert served[-1]["paths"] == [200, 401]
    capsys.readouterr()
    assert run("serve", "--folder", folder, "--feedback", "click=1") == 1
    assert "Give feedback=None, or fit the model with y" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "holds no model yet"), (["--host", "0.0.0.0"], "give keys"),
        (["--keys", "none.json"], "holds no keys"), (["--jwt-key", "a.pem"], "--jwt-audience"),
        (["--model", "nothing"], "nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_served(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert run("serve", *options) == 1
    assert message in capsys.readouterr().err


def test_files_for_containers():
    """The commands of both files exist, and neither runs as root nor holds a secret."""
    lines = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text()).splitlines()
    steps = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    assert steps[0] == ["FROM", "python:3.12-slim"]
    names = [name for name, _ in steps]
    assert names.index("USER") < names.index("ENTRYPOINT")
    for name, rest in steps:
        if name == "COPY":
            *sources, _ = [one for one in shlex.split(rest) if not one.startswith("--")]
            assert all((ROOT / source).exists() for source in sources)
    given = dict(steps)
    command = json.loads(given["ENTRYPOINT"]) + json.loads(given["CMD"])
    assert command[0] == "recft"
    args = _parsed(command[1:])
    assert (args.host, args.keys) == ("0.0.0.0", "data/keys.json")

    compose = (FOLDER / "compose.yml").read_text()
    assert re.search(r"^ +dockerfile: docs/deployment/Dockerfile$", compose, re.MULTILINE)
    own = re.search(r"    command:\n((?:      - .+\n)+)", compose)[1]
    command = [line.strip()[2:] for line in own.splitlines()]
    assert _parsed(["serve", *command]).store.startswith("postgresql://recft:${POSTGRES_PASSWORD}@")
    assert "127.0.0.1:8000:8000" in compose
    assert not re.search(r"(?i)password: (?!\$\{)", compose)


def _parsed(argv):
    from sklearn_recft.cli._parser import make_parser

    args = make_parser(*[None] * 6).parse_args(argv)
    assert args.run is _serve.serve
    return args
