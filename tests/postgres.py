"""A server of Postgres for the tests: given by its address, or started where it is installed."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def _find(name):
    """Return the path of a program of Postgres: Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@pytest.fixture(scope="session")
def postgres():
    """Return the URL of an empty database, or skip."""
    pytest.importorskip("psycopg")
    address = os.environ.get("SKLEARN_RECFT_POSTGRES")
    if address:
        yield address
        return
    initdb, control = _find("initdb"), _find("pg_ctl")
    if not (initdb and control):
        pytest.skip("needs Postgres: apt-get install postgresql, or set SKLEARN_RECFT_POSTGRES")
    user = {"user": "nobody"} if os.name == "posix" and os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as folder:
        if user:
            shutil.chown(folder, "nobody")
        data, log = f"{folder}/data", f"{folder}/log"

        def call(*command):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **user)
            if done.returncode:
                pytest.skip(f"Postgres did not start: {done.stderr or done.stdout}")

        call(initdb, "-D", data, "-U", "recft", "-A", "trust", "--no-sync")
        options = f"-c listen_addresses= -c unix_socket_directories={folder}"
        call(control, "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield f"postgresql:///postgres?host={folder}&user=recft"
        finally:
            call(control, "-D", data, "-m", "immediate", "stop")
