"""Why the oracle refuses; each kind has one HTTP status."""


class OracleServiceError(Exception):
    """Base of all; the message is for the caller."""


class InvalidRequest(OracleServiceError):
    """The request is malformed or breaks a rule."""


class NotFound(OracleServiceError):
    """There is no such event or entry."""


class NotYours(OracleServiceError):
    """The event belongs to another coordinator."""


class Conflict(OracleServiceError):
    """Something else exists already: another event, other entries, or an attestation to another outcome."""


class WrongSeed(OracleServiceError):
    """The data directory was made with another seed: going on would change the oracle's key."""
