"""MovieLens: every source gives the same table; a download arrives whole or not at all."""

import hashlib
import http.server
import os
import threading
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from sklearn_recft.datasets import _movielens, fetch_movielens
from sklearn_recft.datasets._fetch import fetch_file

FLAGS_CRIME_DRAMA = "|".join("1" if i in (6, 8) else "0" for i in range(19))
FLAGS_UNKNOWN = "|".join("1" if i == 0 else "0" for i in range(19))
REAL_DATA = os.environ.get("SKLEARN_RECFT_DATA")
ORIGINALS = {
    "100k": {
        "u.data": "7\t2\t5\t880000001\n7\t1\t3\t880000000\n8\t2\t1\t880000001\n",
        "u.item": f"1|Léon (1994)|01-Jan-1994||http://x|{FLAGS_CRIME_DRAMA}\n"
        f"2|unknown||||{FLAGS_UNKNOWN}\n",
    },
    "1m": {
        "ratings.dat": "7::2::5::880000001\n7::1::3::880000000\n8::2::1::880000001\n",
        "movies.dat": "1::Léon (1994)::Crime|Drama\n2::unknown::unknown\n",
        "users.dat": "7::F::1::10::48067\n8::M::1::10::48067\n",
    },
}
NAMES = sorted(ORIGINALS)


def zip_of(name):
    return f"ml-{name}.zip"


def make_zip(folder, name):
    path = folder / zip_of(name)
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in ORIGINALS[name].items():
            archive.writestr(f"ml-{name}/{file}", content.encode("latin-1"))
    return path


def check(bunch):
    np.testing.assert_array_equal(
        bunch.data, [[7, 2, 880000001], [7, 1, 880000000], [8, 2, 880000001]]
    )
    assert bunch.data.dtype == np.int64
    np.testing.assert_array_equal(bunch.target, [5, 3, 1])
    assert bunch.catalogue.item_id.tolist() == [1, 2]
    assert bunch.catalogue.title.tolist() == ["Léon (1994)", "unknown"]
    assert bunch.catalogue.text.tolist() == ["Léon (1994): Crime, Drama", "unknown: unknown"]
    assert bunch.feature_names == ["user_id", "item_id", "timestamp"]
    assert bunch.target_names == ["rating"]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("SKLEARN_RECFT_DATA", raising=False)


class Server:
    """Serves bytes on the loopback, and counts how often it was asked."""

    def __init__(self):
        self.answers, self.n_requests = [], 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = outer.answers[min(outer.n_requests, len(outer.answers) - 1)]
                outer.n_requests += 1
                self.send_response(503 if content is None else 200)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.zip"


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def serve_release(server, monkeypatch, tmp_path, name, answers=None):
    folder = tmp_path / "served"
    folder.mkdir()
    content = make_zip(folder, name).read_bytes()
    server.answers = [content if a == "good" else a for a in answers or ["good"]]
    release = replace(
        _movielens._RELEASES[name], url=server.url, sha256=hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setitem(_movielens._RELEASES, name, release)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("nested", [True, False])
def test_original_files(tmp_path, name, nested):
    folder = tmp_path / f"ml-{name}" if nested else tmp_path
    folder.mkdir(exist_ok=True)
    for file, content in ORIGINALS[name].items():
        (folder / file).write_bytes(content.encode("latin-1"))
    check(fetch_movielens(name, data_home=tmp_path, download_if_missing=False))


@pytest.mark.parametrize("name", NAMES)
def test_download_once(server, monkeypatch, tmp_path, name):
    serve_release(server, monkeypatch, tmp_path, name)
    home = tmp_path / "home"
    check(fetch_movielens(name, data_home=home))
    check(fetch_movielens(name, data_home=home, download_if_missing=False))
    assert server.n_requests == 1
    assert [path.name for path in home.iterdir()] == [zip_of(name)]


def test_damaged_and_failed_downloads_are_tried_again(server, monkeypatch, tmp_path):
    serve_release(server, monkeypatch, tmp_path, "100k", [None, b"half a file", "good"])
    check(fetch_movielens(data_home=tmp_path / "home", delay=0))
    assert server.n_requests == 3


def test_damaged_download_leaves_nothing_behind(server, monkeypatch, tmp_path):
    serve_release(server, monkeypatch, tmp_path, "100k", [b"not what was promised"])
    home = tmp_path / "home"
    with pytest.raises(OSError, match=r"2 attempt.*SHA-256 is .* expected"):
        fetch_movielens(data_home=home, n_retries=1, delay=0)
    assert server.n_requests == 2
    assert list(home.iterdir()) == []


def test_damaged_cache_is_replaced(server, monkeypatch, tmp_path):
    serve_release(server, monkeypatch, tmp_path, "100k")
    (tmp_path / zip_of("100k")).write_bytes(b"torn")
    check(fetch_movielens(data_home=tmp_path))
    assert server.n_requests == 1


def test_damaged_cache_is_an_error_where_downloads_are_not_allowed(server, monkeypatch, tmp_path):
    serve_release(server, monkeypatch, tmp_path, "100k")
    (tmp_path / zip_of("100k")).write_bytes(b"torn")
    with pytest.raises(OSError, match="download_if_missing=False"):
        fetch_movielens(data_home=tmp_path, download_if_missing=False)
    assert server.n_requests == 0


def test_offline(monkeypatch, tmp_path, server):
    serve_release(server, monkeypatch, tmp_path, "100k")
    release = _movielens._RELEASES["100k"]
    monkeypatch.setitem(
        _movielens._RELEASES, "100k", replace(release, url="http://127.0.0.1:1/ml-100k.zip")
    )
    with pytest.raises(OSError, match=r"Could not download .* put the file at"):
        fetch_movielens(data_home=tmp_path / "home", n_retries=0)


def test_not_downloaded_unless_allowed(tmp_path):
    with pytest.raises(OSError, match="SKLEARN_RECFT_DATA"):
        fetch_movielens(data_home=tmp_path, download_if_missing=False)


def test_silent_server_times_out(tmp_path):
    with socket_that_never_answers() as url, pytest.raises(OSError, match="timed out"):
        fetch_file(url, tmp_path / "file", "0" * 64, n_retries=0, timeout=0.05)


class socket_that_never_answers:
    """A listening socket that nobody serves."""

    def __enter__(self):
        import socket

        self.socket = socket.create_server(("127.0.0.1", 0))
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}/"

    def __exit__(self, *args):
        self.socket.close()


@pytest.mark.parametrize("name", NAMES)
def test_parquet_of_the_environment_comes_first(tmp_path, monkeypatch, name):
    pl = pytest.importorskip("polars")
    folder = tmp_path / f"ml-{name}"
    folder.mkdir()
    pl.DataFrame(
        {
            "user_id": [7, 7, 8],
            "item_id": [2, 1, 2],
            "rating": [5, 3, 1],
            "timestamp": [880000001, 880000000, 880000001],
        }
    ).write_parquet(folder / "interactions.parquet")
    items = {
        "item_id": [1, 2],
        "title": ["Léon (1994)", "unknown"],
        "genres": ["Crime|Drama", "unknown"],
    }
    if name == "100k":  # a copy in which the year is a column of its own
        items |= {"title": ["Léon", "unknown"], "release_year": ["1994", "unknown"]}
        items["genres"][0] = "Crime Drama"
    pl.DataFrame(items).write_parquet(folder / "items.parquet")
    monkeypatch.setenv("SKLEARN_RECFT_DATA", str(tmp_path))
    check(fetch_movielens(name, data_home=tmp_path / "home", download_if_missing=False))
    assert not (tmp_path / "home").exists()


def test_environment_without_this_release_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("SKLEARN_RECFT_DATA", str(tmp_path))
    make_zip(tmp_path, "1m")
    release = _movielens._RELEASES["1m"]
    sha256 = hashlib.sha256((tmp_path / zip_of("1m")).read_bytes()).hexdigest()
    monkeypatch.setitem(_movielens._RELEASES, "1m", replace(release, sha256=sha256))
    check(fetch_movielens("1m", data_home=tmp_path, download_if_missing=False))


def test_return_X_y_and_frame(tmp_path):
    pd = pytest.importorskip("pandas")
    for file, content in ORIGINALS["100k"].items():
        (tmp_path / file).write_bytes(content.encode("latin-1"))
    X, y = fetch_movielens(data_home=tmp_path, return_X_y=True)
    assert X.shape == (3, 3)
    assert y.dtype == np.float64
    X, y = fetch_movielens(data_home=tmp_path, return_X_y=True, as_frame=True)
    assert isinstance(X, pd.DataFrame)
    assert y.name == "rating"


def test_unknown_release():
    with pytest.raises(ValueError, match=r"'100k', '1m'.*'20m'"):
        fetch_movielens("20m")


@pytest.mark.skipif(REAL_DATA is None, reason="SKLEARN_RECFT_DATA names no folder")
@pytest.mark.parametrize(
    ("name", "n_ratings", "n_films", "first"),
    [
        ("100k", 100_000, 1682, [196, 242, 881250949]),
        ("1m", 1_000_209, 3883, [1, 1193, 978300760]),
    ],
)
def test_real_ratings(monkeypatch, tmp_path, name, n_ratings, n_films, first):
    monkeypatch.setenv("SKLEARN_RECFT_DATA", REAL_DATA)
    ratings = fetch_movielens(name, data_home=tmp_path, download_if_missing=False)
    assert ratings.data.shape == (n_ratings, 3)
    assert ratings.data[0].tolist() == first
    assert set(np.unique(ratings.target)) == {1, 2, 3, 4, 5}
    assert len(ratings.catalogue.item_id) == n_films
    assert np.isin(ratings.data[:, 1], ratings.catalogue.item_id).all()
    assert ratings.catalogue.title[0] == "Toy Story (1995)"
