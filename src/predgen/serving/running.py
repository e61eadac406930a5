"""A server as a process: its port, and how it stops."""

import os
import signal
import socket
from typing import Any

import uvicorn

from predgen.errors import ConfigError
from predgen.serving.limits import Limits

# What asks a server to stop.
STOPPING = (signal.SIGINT, signal.SIGTERM)
# Seconds beyond the time limit of a request, in which its answer is sent.
GRACE_SECONDS = 5
WAITING_CONNECTIONS = 2048
# How many prepared operations torch's kernels on a CPU keep: oneDNN itself, and torch's layer above it. Each new shape
# of a batch adds some to both, and torch's own limits are far away (docs/developers/log.md).
KEPT_OPERATIONS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": 64, "LRU_CACHE_CAPACITY": 16}


def bound_memory() -> None:
    """Lets kernels keep few shapes of batches, unless the environment says how many; before torch works first."""
    for name, number in KEPT_OPERATIONS.items():
        os.environ.setdefault(name, str(number))


def open_port(host: str, port: int) -> socket.socket:
    """Returns a socket that has the port and does not listen yet: one that is taken is found before models are loaded.

    Args:
        host: a name or an address of this machine.
        port: from 0 to 65535; 0 for any that is free.

    Raises:
        ConfigError: the port cannot be had.
    """
    opened = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except (OSError, OverflowError) as error:
        if opened is not None:
            opened.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"Expected a free port at '{host}', found that {port} cannot be had: {reason}. Give another --port or "
            "--host."
        ) from error
    return opened


def address_of(opened: socket.socket) -> str:
    """Returns where a socket's server is, as browsers take it."""
    host, port = opened.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def run_server(app: Any, opened: socket.socket, limits: Limits) -> None:
    """Answers until the process is asked to stop; requests that have arrived are answered then, new ones are refused.

    A second Ctrl-C stops at once. To be called in the main thread.

    Args:
        app: as `create_app` returns it.
        opened: as `open_port` returns it.
        limits: of the app.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        backlog=WAITING_CONNECTIONS,
        timeout_graceful_shutdown=int(limits.timeout_seconds) + GRACE_SECONDS,
    )
    server = uvicorn.Server(config)

    def stop(*_: Any) -> None:
        server.should_exit = True

    # uvicorn takes the signals while it runs, and gives them to these at its end, which then do nothing.
    before = {number: signal.signal(number, stop) for number in STOPPING}
    try:
        server.run(sockets=[opened])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
