"""An enclave's process: length-prefixed JSON requests on standard input, answers on standard output."""

import json
import os
import signal
import sys

from .enclave import Enclave, perform
from .framing import frame, read_frame


def main() -> None:
    """Serve requests in order. The first one carries the enclave's keys, so none is ever an argument."""
    # Ctrl-C goes to the whole process group; the service decides when its enclaves end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = sys.stdin.buffer
    # Answers get a descriptor of their own, so that nothing printed by accident can corrupt them.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    first = read_frame(requests)
    if first is None:
        return
    setup = json.loads(first)
    sealed_keys = {int(epoch): sealed for epoch, sealed in setup["sealed_keys"].items()}
    enclave = Enclave(setup["enclave_id"], bytes.fromhex(setup["sealing_key"]), sealed_keys)
    while (request := read_frame(requests)) is not None:
        call = json.loads(request)
        answer = json.dumps(perform(enclave, call["method"], call["arguments"])).encode()
        answers.write(frame(answer))
        answers.flush()


if __name__ == "__main__":
    main()
