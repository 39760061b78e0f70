"""A lock between machines, where the store has none: something that can be made only once, and is deleted by who has made it.

Who dies with it in hand leaves it behind. Nobody can tell that from a slow one, so it is never taken over: after a while the
message says whose it is and how to delete it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from stream_app.errors import ContractError

__all__ = ["held"]

_WAIT_S: Final = 10.0  # a change takes well under one
_LOOK_S: Final = 0.2


@contextmanager
def held(lock: str, make: Callable[[str], bool], maker: Callable[[], str], delete: Callable[[], None]) -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        lock: What is made, and where, for people.
        make: Makes it in the name of this machine; False where it is there already.
        maker: Who has made the one that is there; "" where it is gone.
        delete: Deletes it.

    Raises:
        ContractError: Somebody else has held it for too long.
    """
    deadline = time.monotonic() + _WAIT_S
    while not make(socket.gethostname()):
        if time.monotonic() >= deadline:
            holder = maker() or "one after another"
            raise ContractError(
                f"{lock} has been held by {holder} for {_WAIT_S:.0f} s. Operator action: if nobody there changes the stages now, "
                "delete it: whoever made it has died."
            )
        time.sleep(_LOOK_S)
    try:
        yield
    finally:
        delete()
