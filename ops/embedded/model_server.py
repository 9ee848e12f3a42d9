"""The local model's process: llama.cpp's own HTTP server on loopback, until SIGTERM.

`python -m ops.embedded.model_server --weights FILE --port N`
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from ops.embedded.local_model import CONTEXT_TOKENS, MODEL, SLOTS
from ops.supervisor.ports import LOOPBACK

THREADS = min(4, len(os.sched_getaffinity(0)))
"""One for each core it may use. They wait for each other at each step, so that one without a core holds up all: 21
answers with two threads take 86 s on two idle cores, 322 s on two busy ones."""
MICRO_BATCH_TOKENS = 128
"""A prompt is read in pieces of this size, a second request's tokens in between. No slower than 512 (measured)."""
TEMPERATURE = 0.2
REPEAT_PENALTY = 1.05
"""A model this small wanders at the usual 0.8, and loops without a penalty. A request may set its own."""


def main(argv: list[str]) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="model_server")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args(argv)
    # Blocked before the server makes its threads, so that they inherit the mask and the signal waits for us.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = _serve(args.weights, args.port)
    sys.stdout.write(f"{MODEL} listens on {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # llama.cpp waits for open generations when it is torn down, up to minutes; nothing of it is worth saving.
    os._exit(0)


def _serve(weights: str, port: int):  # type: ignore[no-untyped-def]
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.model_alias = {MODEL}
    params.hostnames = [LOOPBACK]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    params.n_ubatch = MICRO_BATCH_TOKENS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.cpuparams.poll = 0  # do not spin while idle: the workers need the cores
    params.sampling.penalty_repeat = REPEAT_PENALTY
    params.sampling.temp = TEMPERATURE
    params.cache_ram_mib = 0  # a copy of past prompts, 8 GiB by default; each slot keeps its last one anyway
    params.ui = params.endpoint_slots = False
    params.verbosity = 1
    return xllamacpp.Server(params)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
