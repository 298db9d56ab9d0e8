"""The devnet's keymeld: the real protocol, with enclaves that are processes instead of attested hardware.

`KeymeldService` holds the sessions of a data directory, `create_app` puts it on HTTP, `enclave` is what an
enclave does.
"""

from .app import create_app
from .service import KeymeldService, ServiceLimits

__all__ = ["KeymeldService", "ServiceLimits", "create_app"]
