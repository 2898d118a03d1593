"""`recft serve` and `recft keys`: a service that learns, and who may use it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn_recft import persistence
from sklearn_recft.base import RecommenderMixin
from sklearn_recft.cli._saved import key_of, of_store
from sklearn_recft.preprocessing import SecretKey
from sklearn_recft.vocabulary import IdTypeWarning

if TYPE_CHECKING:
    from sklearn_recft.serving import TokenVerifier

# What the first start was given, in the folder.
_SETTINGS = "settings.json"
_WEEK = 7 * 86_400
_DEMO = """\
A year of groceries is served at {url}; stop it with Ctrl+C. In another terminal:

  curl -s {url}/v1/recommend -H 'content-type: application/json'{key} \\
    -d '{{"users": ["me"], "n": 3}}'
  curl -s {url}/v1/events -H 'content-type: application/json'{key} \\
    -d '{{"events": [{{"user_id": "me", "item_id": "{item}", "kind": "click"}}]}}'

Send the first command again: the list has changed.
"""


def add_service(add: Any, output: argparse.ArgumentParser) -> None:
    """Add the commands; ``add(name, run, about, *parents)`` makes one."""
    command = add("serve", serve, "serve a model that learns from events, by HTTP", output)
    command.add_argument("--model", metavar="DIR", help="the first model, of `recft save`")
    command.add_argument(
        "--folder",
        metavar="DIR",
        default="recft-service",
        help="what the service learns is kept here; default: %(default)s",
    )
    command.add_argument("--demo", action="store_true", help="start with a year of groceries")
    command.add_argument("--store", metavar="URL", help="events; default: SQLite in the folder")
    command.add_argument(
        "--store-key-file",
        metavar="FILE",
        help="a file with the key of ids in the store and of saved models, 16 bytes or more; needs "
        "cryptography",
    )
    command.add_argument("--key-file", metavar="FILE", help="the key of an encrypted --model")
    command.add_argument("--keys", metavar="FILE", help="keys of `recft keys add`")
    command.add_argument("--jwt-key", metavar="PEM", help="public key of an identity provider")
    command.add_argument("--jwt-audience", metavar="NAME", help="this service's name there")
    command.add_argument("--jwt-algorithm", metavar="NAME", default="RS256", help="default: RS256")
    command.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    command.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    command.add_argument(
        "--feedback",
        type=_numbers,
        metavar="KIND=VALUE,...",
        help="feedback of each kind of event; default: as at the last start, or click and purchase "
        "are positives",
    )
    command.add_argument(
        "--rates",
        type=_pairs,
        metavar="SCOPE=RATE,...",
        default={},
        help="limits of each key, such as events:write=100/second",
    )
    command.add_argument(
        "--repeat",
        action=argparse.BooleanOptionalAction,
        help="lists may hold items the user has taken before; default: as at the last start, or as "
        "saved",
    )
    command.add_argument(
        "--follow", action="store_true", help="only read, and learn what another process learns"
    )
    rekey = add("rekey", _rekey, "give a store and its models another key, or a first one", output)
    rekey.add_argument("--folder", metavar="DIR", default="recft-service", help="of `recft serve`")
    rekey.add_argument("--store", metavar="URL", help="events; default: SQLite in the folder")
    rekey.add_argument("--store-key-file", metavar="FILE", help="the key of today, if there is one")
    rekey.add_argument("--new-key-file", metavar="FILE", required=True, help="the new key")
    keys = add("keys", _keys, "make, list and revoke keys of a service", output)
    keys.add_argument(
        "action",
        choices=["add", "list", "revoke", "rotate"],
        help="rotate makes a new key with the scopes of ID, which ends seven days later",
    )
    keys.add_argument("file", metavar="FILE", help="the file of keys")
    keys.add_argument("id", nargs="?", metavar="ID", help="which key: revoke, rotate")
    keys.add_argument(
        "--scopes",
        metavar="SCOPE,...",
        default="events:write,recommend:read",
        help="of events:write, recommend:read, model:admin, privacy:admin and metrics:read; "
        "default: %(default)s",
    )
    keys.add_argument("--name", default="", help="what the key is called in lists")
    keys.add_argument(
        "--tenant", default="default", help="whose data it opens; default: %(default)s"
    )
    keys.add_argument("--days", type=float, help="days until it expires; default: never")


def serve(args: argparse.Namespace) -> dict[str, Any]:
    """Serve until the process is stopped."""
    from sklearn_recft.serving import (
        AuditLog,
        FeedbackStore,
        KeyFile,
        Limits,
        Loop,
        create_app,
        make_server,
    )

    keys = None if args.keys is None else KeyFile(args.keys)
    if keys is not None and not keys.list():
        raise ValueError(f"{args.keys} holds no keys; make one: recft keys add {args.keys}")
    tokens = _tokens(args)
    secured = keys is not None or tokens is not None
    make_server(None, host=args.host, port=args.port, secured=secured)  # fail before the model
    folder = Path(args.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    url = args.store or f"sqlite:///{folder}/feedback.db"
    store = FeedbackStore(url, key=key_of(args.store_key_file))
    try:
        is_new = Loop(None, store, folder / "models").is_new
        model, settings = _first_model(args, folder, is_new), _settings(folder)
        for name, value in settings.items():
            if name in ("feedback", "repeat") and getattr(args, name) is None:
                setattr(args, name, value)
        about = _about(args) if is_new else {}
        if args.repeat is None:
            args.repeat = args.demo or bool(about.get("repeat"))
        if about.get("feedback") and args.feedback is None:
            raise ValueError(
                f"The model learns the feedback {about['feedback']!r}: give the feedback of each "
                "kind of event, such as --feedback click=1,skip=0. An event may carry its own as "
                "`value`."
            )
        loop = Loop(model, store, folder / "models", feedback=args.feedback, follow=args.follow)
        app = create_app(
            loop,
            keys=keys,
            tokens=tokens,
            limits=Limits(rates=args.rates),
            audit=None if args.follow else AuditLog(folder / "audit.jsonl"),
            exclude_seen=not args.repeat,
        )
        server = make_server(app, host=args.host, port=args.port, secured=secured)
        with loop:
            if not args.follow:
                _keep_settings(folder, args)
            # The address is printed once the loop is ready.
            _print_address(args, model)
            warnings.simplefilter("ignore", IdTypeWarning)  # each request has ids of its own
            server.run()
    finally:
        store.close()
    return {"text": "The service has stopped."}


def _rekey(args: argparse.Namespace) -> dict[str, Any]:
    """Change the key of a store that no process uses."""
    from sklearn_recft.serving import change_key

    folder = Path(args.folder)
    old, new = key_of(args.store_key_file), SecretKey.from_file(args.new_key_file)
    if args.store is None and not (folder / "feedback.db").exists():
        raise ValueError(
            f"{folder} holds no store; give --folder of `recft serve`, or --store URL."
        )
    url = args.store or f"sqlite:///{folder}/feedback.db"
    done = change_key(url, folder / "models", key=old, new_key=new)
    text = f"{done.n_events} events and {done.n_models} models are under the new key."
    return {"text": text, "n_events": done.n_events, "n_models": done.n_models}


def _tokens(args: argparse.Namespace) -> TokenVerifier | None:
    if args.jwt_key is None:
        return None
    from sklearn_recft.serving import TokenVerifier

    if args.jwt_audience is None:
        raise ValueError("--jwt-key needs --jwt-audience: tokens for others would be accepted.")
    key = Path(args.jwt_key).read_text(encoding="utf-8")
    return TokenVerifier(key, audience=args.jwt_audience, algorithms=[args.jwt_algorithm])


def _first_model(args: argparse.Namespace, folder: Path, is_new: bool) -> Any:
    """Return a model for an empty folder, None for one that has models."""
    if not is_new:
        return None
    if args.demo:
        return _groceries()
    if args.model is None:
        raise ValueError(f"{folder} holds no model yet: give --model DIR, or --demo.")
    return persistence.load(of_store(args.model), key=key_of(args.key_file))


def _about(args: argparse.Namespace) -> dict[str, Any]:
    """Return the metadata of the first model."""
    if args.demo or args.model is None:
        return {}
    about = persistence.inspect(of_store(args.model), key=key_of(args.key_file)).metadata
    return about if isinstance(about, dict) else {}


def _settings(folder: Path) -> dict[str, Any]:
    """Return what an earlier start was given, which a restart goes on with."""
    path = folder / _SETTINGS
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged; remove it, and give the options again.") from error
    return found if isinstance(found, dict) else {}


def _keep_settings(folder: Path, args: argparse.Namespace) -> None:
    text = json.dumps({"feedback": args.feedback, "repeat": bool(args.repeat)})
    part = folder / f".{_SETTINGS}.part"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text + "\n")
    part.replace(folder / _SETTINGS)


def _groceries() -> Any:
    """Fit what households buy again, and what is popular; items have their names as ids.

    The year is moved by whole weeks, so that it ends now: habits decay, and an event of today would
    else be the only one that counts.
    """
    import numpy as np

    from sklearn_recft import HabitRecommender
    from sklearn_recft.datasets import load_complete_journey

    log = load_complete_journey()
    names = {
        item: f"{title} ({item})"
        for item, title in zip(log.catalogue.item_id.tolist(), log.catalogue.title, strict=True)
    }
    items, codes = np.unique(log.data[:, 1], return_inverse=True)
    X = np.empty(log.data.shape, dtype=object)
    X[:, 0] = [f"household {user}" for user in log.data[:, 0].tolist()]
    X[:, 1] = np.array([names[item] for item in items.tolist()], dtype=object)[codes]
    times = log.data[:, 2].astype(np.float64)
    X[:, 2] = times + (time.time() - times.max()) // _WEEK * _WEEK
    return HabitRecommender().fit(X)


def _print_address(args: argparse.Namespace, model: RecommenderMixin | None) -> None:
    url = f"http://{args.host}:{args.port}"
    if args.demo and model is not None and not args.quiet:
        key = "" if args.keys is None else " -H 'authorization: Bearer KEY'"
        sys.stdout.write(_DEMO.format(url=url, key=key, item=_popular(model)) + "\n")
    else:
        sys.stdout.write(f"Serving at {url}; stop it with Ctrl+C.\n")
    sys.stdout.flush()


# ------------------------------------------------------------------------------ keys


def _keys(args: argparse.Namespace) -> dict[str, Any]:
    from sklearn_recft.serving import KeyFile

    keys = KeyFile(args.file)
    if args.action in ("revoke", "rotate") and args.id is None:
        raise ValueError(f"recft keys {args.action} FILE ID: give the id of a key.")
    if args.action == "list":
        return _list_keys(args)
    if args.action == "revoke":
        keys.revoke(args.id)
        return {"text": f"Key {args.id} is revoked; running services refuse it from now on."}
    if args.action == "rotate":
        key = keys.rotate(args.id)
        note = f"Key {args.id} ends in 7 days."
    else:
        scopes = [scope.strip() for scope in args.scopes.split(",")]
        key = keys.add(scopes, tenant=args.tenant, name=args.name, days=args.days)
        note = "This is the only time that it is shown."
    return {"key": key, "text": f"{key}\n\n{note}"}


def _list_keys(args: argparse.Namespace) -> dict[str, Any]:
    from sklearn_recft.serving import KeyFile

    now = time.time()
    found: list[dict[str, Any]] = [
        {
            "id": one.id,
            "name": one.name,
            "tenant": one.tenant,
            "scopes": list(one.scopes),
            "valid": one.is_valid(now),
            "expires": None if one.expires is None else _day(one.expires),
        }
        for one in KeyFile(args.file).list()
    ]
    lines = [
        f"{one['id']}  {'valid' if one['valid'] else 'ended'}  {one['expires'] or 'no expiry':10}  "
        f"{one['tenant']}  {','.join(one['scopes'])}  {one['name']}".rstrip()
        for one in found
    ]
    return {"keys": found, "text": "\n".join(lines) or "No keys."}


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and value for name, _, value in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE,...")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _numbers(text: str) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in _pairs(text).items()}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _popular(model: RecommenderMixin) -> str:
    """Return the tenth of the items that an unknown user gets."""
    items, _ = model.recommend(["me"], n_recommendations=10, exclude_seen=False)
    return str(items[0, 9])
