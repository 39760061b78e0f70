"""Free TCP ports of 127.0.0.1, below the range from which the system takes the ports of outgoing connections.

Any client may take a port of that range while its server restarts; below the range a restarted server gets its port again. A port
is free at the moment of the check only: the caller that starts a server on it must be ready to retry.
"""

from __future__ import annotations

import socket
import zlib

from stream_app.errors import ServiceError

_FIRST, _COUNT = 20_000, 12_000  # Linux hands out 32768-60999 to outgoing connections by default
_STRIDE = 7  # two servers started in the same instant do not chase each other port by port


def is_free(port: int) -> bool:
    """Return whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this option too: connections of a killed predecessor (TIME_WAIT) do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(seed: str, taken: frozenset[int] = frozenset()) -> int:
    """Return a free port that is not in `taken`; the same `seed` tends to give the same port.

    Raises:
        ServiceError: No port of the range is free.
    """
    start = zlib.crc32(seed.encode())
    for step in range(_COUNT):
        port = _FIRST + (start + step * _STRIDE) % _COUNT
        if port not in taken and is_free(port):
            return port
    msg = f"no free port among {_FIRST}-{_FIRST + _COUNT - 1} on 127.0.0.1; stop some of what listens there (`ss -ltn`)"
    raise ServiceError(msg)
