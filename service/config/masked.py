"""The effective settings for people to see: secrets are masked."""

from pydantic import SecretStr

from service.config.settings import Settings


def masked(settings: Settings) -> dict[str, object]:
    """Return all settings by name. Texts that may have a secret in them are replaced by what may be shown."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    # A URL may have a password or a token among its parameters; these show themselves without.
    parsed = {"database_url": settings.database, "jwt_jwks": settings.jwks}
    shown = {name: None if values[name] is None else str(value) for name, value in parsed.items()}
    hidden = {name: str(value) for name, value in values.items() if isinstance(value, SecretStr)}
    return {**values, **hidden, **shown}
