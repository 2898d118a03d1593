"""A small service for the tests of HTTP: a popularity model, a store, keys of every scope."""

import contextlib

from starlette.testclient import TestClient

from sklearn_recft import PopularityRecommender
from sklearn_recft.serving import AuditLog, FeedbackStore, KeyFile, Loop, create_app
from sklearn_recft.serving._keys import SCOPES

ROWS = [["ann", "tea"], ["bob", "tea"], ["bob", "rye"], ["cem", "tea"], ["cem", "jam"]]
LOCAL = {"base_url": "http://127.0.0.1", "client": ("127.0.0.1", 4000)}


class Keys:
    """One key of every scope, one of all scopes, and some that must be refused."""

    def __init__(self, folder):
        self.file = KeyFile(folder / "keys.json")
        self.by_scope = {scope: self.file.add([scope]) for scope in SCOPES}
        self.all = self.file.add(SCOPES)
        self.foreign = self.file.add(SCOPES, tenant="other")
        self.revoked = self.file.add(SCOPES)
        self.file.revoke(self.revoked.split("_")[1])


def header(key):
    return {} if key is None else {"Authorization": f"Bearer {key}"}


@contextlib.contextmanager
def running(folder, model=None, *, url=None, loop_options=None, **options):
    """Serve a model from an empty folder; yield a client that calls the application itself."""
    if model is None:
        model = PopularityRecommender().fit(ROWS)
    store = FeedbackStore(url or f"sqlite:///{folder}/feedback.db", durable=False)
    own = {"feedback": None, "after": store.last_seq()} | (loop_options or {})
    loop = Loop(model, store, folder / "models", **own)
    app = create_app(loop, **({"watched": 1.0} | options))
    try:
        with TestClient(app, **LOCAL) as client:
            yield client
    finally:
        store.close()


@contextlib.contextmanager
def secured(folder, **options):
    """Serve with keys and an audit log; yield the client and the keys."""
    keys = Keys(folder)
    audit = AuditLog(folder / "audit.jsonl")
    with running(folder, keys=keys.file, audit=audit, **options) as client:
        yield client, keys
