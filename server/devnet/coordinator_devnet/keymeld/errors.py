"""What the service answers instead of a result."""


class ServiceError(Exception):
    """A refusal with its HTTP status and a type as the real service names it."""

    def __init__(self, status: int, kind: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.kind = kind


def bad_request(text: str) -> ServiceError:
    """400: the request is malformed or asks for what is not allowed."""
    return ServiceError(400, "bad_request", text)


def unauthorized(text: str) -> ServiceError:
    """401: a signature is missing, wrong or used."""
    return ServiceError(401, "unauthorized", text)


def not_found(text: str) -> ServiceError:
    """404: no such session, participant or enclave."""
    return ServiceError(404, "not_found", text)


def conflict(text: str) -> ServiceError:
    """409: it exists already."""
    return ServiceError(409, "conflict", text)


def expired(text: str) -> ServiceError:
    """410: the session's time ran out."""
    return ServiceError(410, "expired", text)


def unavailable(text: str) -> ServiceError:
    """503: try again."""
    return ServiceError(503, "enclave_communication_error", text)
