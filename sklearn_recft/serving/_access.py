"""Who may do what: from the header of a request to a principal with the scope of the route."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from typing import Protocol

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
            _check_local(scope, headers)
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


def _check_local(scope: Scope, headers: Mapping[bytes, bytes]) -> None:
    """Refuse other machines, and pages of other sites that a browser here has open.

    Such a page may send a request without a body and does not need its answer: browsers then name
    its site in ``Origin``.
    """
    client = scope.get("client")
    names = [headers.get(b"host", b"").decode("latin-1")]
    if b"origin" in headers:
        names.append(headers[b"origin"].decode("latin-1").partition("://")[2])
    if (client and not is_loopback(client[0])) or not all(map(_is_local, names)):
        raise Problem("forbidden", "Without keys, the service answers this machine only.")
