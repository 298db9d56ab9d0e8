"""What can go wrong when talking to a keymeld service, as types."""


class KeymeldError(Exception):
    """Base of every keymeld failure. `status` is the HTTP status, `None` where there was no answer."""

    def __init__(self, text: str, *, status: int | None = None) -> None:
        super().__init__(text if status is None else f"keymeld answered {status}: {text}")
        self.text = text
        self.status = status


class KeymeldCryptoError(KeymeldError):
    """A key, signature or ciphertext is malformed or does not decrypt."""


class KeymeldAuthError(KeymeldError):
    """The session or user signature was refused (wrong key, or a replayed header)."""


class KeymeldUnknownSession(KeymeldError):
    """No such session, participant or enclave."""


class KeymeldConflict(KeymeldError):
    """It exists already: the session id is taken, the participant is registered."""


class KeymeldLimitError(KeymeldError):
    """More subsets or batch items than the service (or the sessions given) can hold."""


class KeymeldExpired(KeymeldError):
    """The session's time ran out."""


class KeymeldRejected(KeymeldError):
    """The service understood the request and refuses it; the same request will be refused again."""


class KeymeldUnavailable(KeymeldError):
    """No answer, or a temporary failure: worth trying again."""


class KeymeldBadResponse(KeymeldError):
    """The answer does not have the shape the protocol promises, or does not verify."""


class KeymeldUnreadable(KeymeldBadResponse):
    """The answer is not JSON, or not of the protocol: it may come from something in between, and the service
    never have been asked.
    """
