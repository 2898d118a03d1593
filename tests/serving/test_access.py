"""Keys, tokens, rates and the audit log: what is refused, and what is stored."""

import json
import os
import stat
import time

import pytest

from sklearn_recft.serving import AuditLog, KeyFile, Limits, TokenVerifier
from sklearn_recft.serving._keys import SCOPES
from sklearn_recft.serving._limits import RateLimiter


@pytest.fixture
def keys(tmp_path):
    return KeyFile(tmp_path / "keys.json")


def test_a_key_is_stored_as_a_hash_in_a_file_of_its_owner(keys):
    key = keys.add(["events:write", "recommend:read"], tenant="shop", name="web")
    stored = keys.path.read_text()
    assert key not in stored
    assert key.split("_", 2)[2] not in stored
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    found = keys.verify(key)
    assert (found.tenant, found.scopes) == ("shop", {"events:write", "recommend:read"})
    assert found.id == keys.list()[0].id == key.split("_")[1]
    assert sorted(os.listdir(keys.path.parent)) == [".keys.json.lock", "keys.json"]


def test_keys_that_are_not_valid(keys):
    key, other = keys.add(SCOPES, days=1), keys.add(SCOPES)
    assert keys.verify(key, now=time.time() + 86_401) is None
    swapped = key[:18] + "_" + other.split("_", 2)[2]
    for wrong in ("", "recft_", key + "a", key[:-1], key.upper(), swapped, "recft_é", "\ud800"):
        assert keys.verify(wrong) is None
    keys.revoke(other.split("_")[1])
    assert keys.verify(other) is None
    assert keys.verify(key) is not None


def test_rotation_keeps_both_keys_for_a_time(keys):
    old = keys.add(["recommend:read"], tenant="shop")
    new = keys.rotate(old.split("_")[1], grace_days=2)
    assert keys.verify(old) is not None
    assert keys.verify(new).tenant == "shop"
    later = time.time() + 3 * 86_400
    assert keys.verify(old, now=later) is None
    assert keys.verify(new, now=later) is not None
    keys.revoke(old.split("_")[1])
    with pytest.raises(ValueError, match="revoked"):
        keys.rotate(old.split("_")[1])


def test_a_running_service_sees_changes_of_another_process(keys):
    other = KeyFile(keys.path)
    assert keys.list() == []
    key = other.add(["recommend:read"])
    assert keys.verify(key) is not None
    other.revoke(other.list()[0].id)
    assert keys.verify(key) is None


@pytest.mark.parametrize("scopes", [[], "all", ["events:write", "root"]])
def test_unknown_scopes_are_refused(keys, scopes):
    with pytest.raises(ValueError, match="scopes must be among"):
        keys.add(scopes)
    assert not keys.path.exists()


def test_bad_files_of_keys(keys):
    keys.add(["recommend:read"])
    content = keys.path.read_text()
    for wrong in ("", "[]", '{"keys": [{}]}', content.replace("recommend:read", "root")):
        keys.path.write_text(wrong)
        with pytest.raises(ValueError, match="damaged"):
            KeyFile(keys.path).list()
    keys.path.write_text(content)
    keys.path.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        KeyFile(keys.path).list()
    for call in (keys.revoke, keys.rotate):
        keys.path.chmod(0o600)
        with pytest.raises(ValueError, match="no key with the id 'abc'"):
            call("abc")
    with pytest.raises(ValueError, match="days"):
        keys.add(["recommend:read"], days=0)


# ------------------------------------------------------------------------------------ tokens


@pytest.fixture(scope="module")
def pair():
    from cryptography.hazmat.primitives import serialization as to
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        to.Encoding.PEM, to.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public.decode()


def claims(**changed):
    found = {
        "sub": "web",
        "aud": "recft",
        "exp": time.time() + 60,
        "tenant": "default",
        "scope": "recommend:read profile",
    } | changed
    return {name: value for name, value in found.items() if value is not None}


def test_a_signed_token_is_accepted(pair):
    import jwt

    tokens = TokenVerifier(pair[1], audience="recft", algorithms=["ES256"])
    found = tokens.verify(jwt.encode(claims(), pair[0], "ES256"))
    assert (found.id, found.tenant, found.scopes) == ("web", "default", {"recommend:read"})


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": time.time() - 1}, {"exp": None}, {"aud": "other"}, {"aud": None}, {"sub": None},
        {"tenant": None}, {"tenant": 3}, {"scope": ["recommend:read"]},
    ],
)  # fmt: skip
def test_claims_that_are_refused(pair, changed):
    import jwt

    tokens = TokenVerifier(pair[1], audience="recft", algorithms=["ES256"])
    assert tokens.verify(jwt.encode(claims(**changed), pair[0], "ES256")) is None


def test_other_algorithms_are_refused(pair):
    import base64

    import jwt

    tokens = TokenVerifier(pair[1], audience="recft", algorithms=["RS256"])
    assert tokens.verify(jwt.encode(claims(), pair[0], "ES256")) is None
    tokens = TokenVerifier(pair[1], audience="recft", algorithms=["ES256"])
    assert tokens.verify(jwt.encode(claims(), None, "none")) is None
    assert tokens.verify(jwt.encode(claims(), "s" * 32, "HS256")) is None
    head, _, signature = jwt.encode(claims(), pair[0], "ES256").split(".")
    forged = base64.urlsafe_b64encode(json.dumps(claims(sub="root")).encode()).rstrip(b"=")
    assert tokens.verify(f"{head}.{forged.decode()}.{signature}") is None
    for wrong in (["none"], ["HS256"], [], "ES256"):
        with pytest.raises(ValueError, match="algorithms"):
            TokenVerifier(pair[1], audience="recft", algorithms=wrong)
    with pytest.raises(ValueError, match="audience"):
        TokenVerifier(pair[1], audience="")


# ------------------------------------------------------------------------------ rates, audit


def test_rates_are_counted_by_key_and_scope():
    limiter = RateLimiter({"recommend:read": "2/hour"})
    assert [limiter.wait_of("a", "recommend:read") > 0 for _ in range(3)] == [False, False, True]
    assert limiter.wait_of("b", "recommend:read") == 0
    assert limiter.wait_of("a", "events:write") == 0
    assert 3500 < limiter.wait_of("a", "recommend:read") <= 3600
    with pytest.raises(ValueError, match="scopes"):
        Limits(rates={"all": "2/hour"})
    with pytest.raises(ValueError, match="max_body"):
        Limits(max_body=0)


def test_a_changed_row_of_the_audit_log_is_found(tmp_path):
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    for n in range(5):
        head = log.append("admin", "promote", model=f"m{n}")
    assert AuditLog(path).head == head
    assert log.verify(head) == 5
    lines = path.read_text().splitlines(keepends=True)
    changes = {
        "changed": [*lines[:2], lines[2].replace("m2", "m9"), *lines[3:]],
        "removed": lines[:2] + lines[3:],
        "swapped": [lines[0], lines[2], lines[1], *lines[3:]],
        "cut": [*lines[:4], lines[4][:20]],
    }
    for change, content in changes.items():
        path.write_text("".join(content))
        with pytest.raises(ValueError, match="row"):
            log.verify()
        assert change
    path.write_text("".join(lines[:4]))
    assert log.verify() == 4
    with pytest.raises(ValueError, match="missing"):
        log.verify(head)
