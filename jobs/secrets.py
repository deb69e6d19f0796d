"""What is stored encrypted, and the key that it is encrypted with."""

from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from jobs.errors import BadRequest

_NAME: Final = "LONGHAUL_SECRET_KEY"


class NoSecretKey(BadRequest):
    """This server has no key to encrypt secrets with."""


class Unreadable(Exception):
    """What is stored was encrypted with a key that this process does not have."""


class Vault:
    """Encrypts with the first of the keys, decrypts with any: so keys change without an interruption.

    A process without a key starts all the same, and refuses only what needs one.
    """

    def __init__(self, keys: str) -> None:
        """`keys` has commas between them; "" is none. Raises ValueError if one is no key."""
        fernets = [Fernet(key.strip()) for key in keys.split(",") if key.strip()]
        self._fernet = MultiFernet(fernets) if fernets else None

    def seal(self, text: str, param: str) -> bytes:
        """The text, encrypted.

        Raises:
            NoSecretKey: there is no key; the message says that `param` needs one.
        """
        if self._fernet is None:
            message = f"'{param}' holds what must be stored encrypted, and this server has no {_NAME}."
            raise NoSecretKey(message, param=param, code="secret_key_missing")
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """The text again.

        Raises:
            Unreadable: there is no key, or not the right one.
        """
        if self._fernet is None:
            raise Unreadable(f"its secrets cannot be read: {_NAME} is not set")
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            raise Unreadable(f"its secrets cannot be read: {_NAME} is not what they were stored with") from None


def new_key() -> str:
    """A key for `Vault`."""
    return Fernet.generate_key().decode()
