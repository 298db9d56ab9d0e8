"""Errors of the contract package. All derive from `ContractError`; messages never contain secrets."""


class ContractError(Exception):
    """Something about a contract is wrong.

    Attributes:
        field: The input the error is about (e.g. ``players[2].pubkey``), or None.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class InvalidPoint(ContractError):
    """Bytes that are no point of secp256k1 in the encoding asked for."""


class InvalidScalar(ContractError):
    """Bytes that are no scalar, or no secret key, of secp256k1."""


class InvalidContribution(ContractError):
    """A signer's key, nonce or partial signature is malformed (BIP327's `InvalidContributionError`).

    Attributes:
        signer: Index of the signer to blame; None where it is an aggregate of several.
        contribution: ``pubkey``, ``pubnonce``, ``aggnonce``, ``aggothernonce`` or ``psig``.
    """

    def __init__(self, signer: int | None, contribution: str) -> None:
        who = "the aggregate" if signer is None else f"signer {signer}"
        super().__init__(f"invalid {contribution} of {who}", field=contribution)
        self.signer = signer
        self.contribution = contribution

    def __reduce__(self) -> tuple[type["InvalidContribution"], tuple[int | None, str]]:
        return type(self), (self.signer, self.contribution)


class NonceReuse(ContractError):
    """A secret nonce was asked to sign a second time."""


class SigningError(ContractError):
    """A signature cannot be made from what was given (key not in the group, invalid tweak, …)."""


class InvalidSignature(ContractError):
    """A signature is missing or does not verify.

    Attributes:
        key: The signature's key in the contract, e.g. ``att3`` or ``att3:p1``; None outside a contract.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message, field=key)
        self.key = key


class InvalidParameters(ContractError):
    """Contract parameters, or a field of them, break a rule of the contract."""


class UnknownOutcome(ContractError):
    """An outcome or win condition which the contract does not have."""


class InvalidTransaction(ContractError):
    """Bytes that are no transaction, or a transaction that must not be built (dust, excessive fee)."""


class InvalidPreimage(ContractError):
    """A preimage does not hash to the contract's hash."""


class InvalidAttestation(ContractError):
    """An attestation secret does not belong to the outcome's locking point."""


class CorruptContract(ContractError):
    """A stored contract is damaged, of an unknown version, or not what it claims to be."""
