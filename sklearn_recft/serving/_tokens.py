"""Tokens of others: JSON Web Tokens of an identity provider, checked with its public key."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn_recft.serving._keys import SCOPES, Principal

# Signatures by public keys only: whoever can check a token cannot make one.
_ALGORITHMS = ("RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA")


class TokenVerifier:
    """Verifier of JSON Web Tokens (RFC 7519) that an identity provider has signed.

    A token needs the claims ``sub``, ``exp``, ``aud`` and ``scope`` (words, separated by spaces).
    Tokens without a signature, with another algorithm than the given ones, or for another audience
    are refused.

    Parameters
    ----------
    public_key : str
        Public key of the provider, in PEM.
    audience : str
        The name of this service at the provider.
    algorithms : sequence of str, default=("RS256",)
        Among RS256, RS512, PS256, ES256, ES384 and EdDSA.
    issuer : str, default=None
        The claim ``iss`` must be this, if given.
    tenant_claim : str, default="tenant"
        The claim that names the tenant.

    Raises
    ------
    ImportError
        Without PyJWT (extra ``[jwt]``).
    ValueError
        If an algorithm is not among the allowed ones.
    """

    def __init__(
        self,
        public_key: str,
        *,
        audience: str,
        algorithms: Sequence[str] = ("RS256",),
        issuer: str | None = None,
        tenant_claim: str = "tenant",
    ) -> None:
        try:
            import jwt  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "TokenVerifier needs PyJWT: pip install 'sklearn-recft[jwt]'"
            ) from error
        wrong = [name for name in algorithms if name not in _ALGORITHMS]
        if wrong or not algorithms or isinstance(algorithms, str):
            raise ValueError(f"algorithms must be among {list(_ALGORITHMS)}, got {algorithms!r}.")
        if not audience:
            raise ValueError("audience must not be empty: any token of the provider would pass.")
        self.public_key = public_key
        self.audience = audience
        self.algorithms = tuple(algorithms)
        self.issuer = issuer
        self.tenant_claim = tenant_claim

    def verify(self, token: str) -> Principal | None:
        """Return whose token this is; None if it is not valid now, here, or not signed."""
        import jwt

        try:
            claims = jwt.decode(
                token,
                self.public_key,
                algorithms=list(self.algorithms),
                audience=self.audience,
                issuer=self.issuer,
                options={"require": ["exp", "aud", "sub"]},
            )
        except jwt.PyJWTError:
            return None
        tenant, scope = claims.get(self.tenant_claim), claims.get("scope", "")
        if not isinstance(tenant, str) or not isinstance(scope, str):
            return None
        return Principal(claims["sub"], tenant, frozenset(scope.split()) & frozenset(SCOPES))
