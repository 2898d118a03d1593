"""Who may do what: from the header of a request to a principal with the scope of the route."""

from __future__ import annotations

import ipaddress
import logging
from typing import Protocol
from urllib.parse import urlsplit

from starlette.types import Scope

from sklearn_recft.serving._keys import SCOPES, Principal
from sklearn_recft.serving._limits import RateLimiter
from sklearn_recft.serving._problems import Problem

log = logging.getLogger("sklearn_recft.serving")

# Without keys, whoever sits at this machine may do everything.
LOCAL = Principal("local", "default", frozenset(SCOPES))
_LOCAL_NAMES = {"localhost", "127.0.0.1", "::1"}
_LONGEST_HEADER = 4096


class Verifier(Protocol):
    """Anything that knows keys or tokens."""

    def verify(self, key: str, /) -> Principal | None:
        """Return whose this is; None if it is not valid."""
        ...


class Access:
    """Gate of a service: it identifies the sender, and checks tenant, scope and rate.

    Parameters
    ----------
    verifiers : tuple of Verifier
        Tried in turn. If there are none, only this machine is answered.
    limiter : RateLimiter
    tenant : str
        The tenant that is served; keys of others are refused.
    """

    def __init__(
        self, verifiers: tuple[Verifier, ...], limiter: RateLimiter, tenant: str = "default"
    ) -> None:
        self._verifiers = verifiers
        self._limiter = limiter
        self._tenant = tenant

    def identify(self, scope: Scope) -> Principal | None:
        """Return who sends a request; None if it names nobody.

        Raises
        ------
        Problem
            If the key is not valid, or without keys, if the request is not from this machine.
        """
        headers = dict(scope["headers"])
        if not self._verifiers:
            host = headers.get(b"host", b"").decode("latin-1")
            _check_local(scope, host)
            _check_origin(headers.get(b"origin"), host)
            return LOCAL
        given = headers.get(b"authorization")
        if given is None:
            return None
        kind, _, key = given.decode("latin-1").partition(" ")
        if kind.lower() == "bearer" and len(key) <= _LONGEST_HEADER:
            for verifier in self._verifiers:
                principal = verifier.verify(key)
                if principal is not None:
                    return principal
        raise Problem("unauthorized", "The key is unknown, expired or revoked.")

    def allow(self, principal: Principal | None, needed: str) -> Principal:
        """Check that a principal may use a scope here, and count the request.

        Raises
        ------
        Problem
        """
        if principal is None:
            raise Problem("unauthorized", "Send the header `Authorization: Bearer KEY`.")
        if self._verifiers and principal.tenant != self._tenant:
            raise Problem("forbidden", "The key belongs to another tenant.")
        if needed not in principal.scopes:
            raise Problem("forbidden", f"The key needs the scope {needed}.")
        wait = self._limiter.wait_of(principal.id, needed)
        if wait:
            raise Problem("too-many-requests", f"Try again after {wait} s.", retry_after=wait)
        return principal


def is_loopback(host: str) -> bool:
    """Whether an address or name is that of this machine alone."""
    if host in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    """Whether the host of a header, with or without a port, is this machine."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    return is_loopback(name.strip("[]").lower())


def _check_local(scope: Scope, host: str) -> None:
    """Refuse other machines, and names of other machines that lead here."""
    client = scope.get("client")
    if (client and not is_loopback(client[0])) or not _is_local(host):
        raise Problem("forbidden", "Without keys, the service answers this machine only.")


def _check_origin(origin: bytes | None, host: str) -> None:
    """Refuse what pages of other sites send: a browser names the page, other clients do not."""
    if origin is not None and _place_of(origin.decode("latin-1")) != host:
        raise Problem("forbidden", "Without keys, pages of other sites are not answered.")


def _place_of(url: str) -> str | None:
    """Return the host and port of an address; None if it is none."""
    try:
        return urlsplit(url).netloc
    except ValueError:
        return None
