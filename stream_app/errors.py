"""Every error Millrace raises on purpose, grouped by what the worker does next.

    MillraceError
    |-- ConfigError            exit 2 before any event is read; the message lists every problem at once
    |-- InvalidEventError      the event goes to `dead-letters`; the worker goes on
    |-- RetryableError         nothing was applied; wait and try again, or restart from the store's front
    |   |-- StoreUnavailableError
    |   |-- BrokerUnavailableError
    |   |-- AbandonedError      the batch before failed before its commit: this one was given up with it
    |   `-- StoreRolledBackError   the store is behind what this worker committed: restart from its front
    |-- ModelFailedError       the model gave no usable answer for a batch: it is answered by rules alone, marked `degraded`
    |   `-- EngineLostError      the GPU's engine is of no use any longer: the CPU takes over
    |-- FencedError            another worker owns the partition group now: drop the batch, apply nothing
    |-- InputFileError         a file given to a command cannot be read to its end; what was read before it counts
    |-- ServiceError           a local Kafka or Redis could not be fetched, started or stopped; the message says how to fix it
    `-- ContractError          two parts disagree (catalogue and model, topics and store): stop and say how to fix it
        |-- UnknownLayoutError    state of a catalogue that this worker has not heard of: ask the store once, then stop
        `-- EngineNotHereError    what would run the model is missing here; `auto` takes the next engine, else stop

Adapters translate the exceptions of third-party clients at their edge; nothing above them names a client library.
"""

from __future__ import annotations

__all__ = [
    "AbandonedError",
    "BrokerUnavailableError",
    "ConfigError",
    "ContractError",
    "EngineLostError",
    "EngineNotHereError",
    "FencedError",
    "InputFileError",
    "InvalidEventError",
    "MillraceError",
    "ModelFailedError",
    "RetryableError",
    "ServiceError",
    "StoreRolledBackError",
    "StoreUnavailableError",
    "UnknownLayoutError",
]


class MillraceError(Exception):
    """Base of all of them; catch it only to print its message and exit."""


class ConfigError(MillraceError):
    """The settings are wrong. The worker exits before it reads an event."""


class InvalidEventError(MillraceError):
    """The bytes are no event of their topic. The original goes to `dead-letters` with this message as the reason."""


class RetryableError(MillraceError):
    """Nothing was applied; the same step may be tried again."""


class StoreUnavailableError(RetryableError):
    """The store did not answer in time, or closed the connection."""


class BrokerUnavailableError(RetryableError):
    """The broker did not acknowledge in time."""


class AbandonedError(RetryableError):
    """The batch before this one failed before its commit, so this one was not begun; both will be read again."""


class StoreRolledBackError(RetryableError):
    """The store holds an older state than this worker has committed (lost its last writes, or was restored)."""


class ModelFailedError(MillraceError):
    """The model failed, or gave no usable answer, for one batch; a worker answers that batch by rules alone."""


class EngineLostError(ModelFailedError):
    """The engine failed in a way that it does not come back from: out of memory, device lost, hung.

    Args:
        reason: One of "out_of_memory", "device_lost", "hang".
        message: What happened.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class FencedError(MillraceError):
    """The store refused a write: another worker has claimed this partition group since."""


class InputFileError(MillraceError):
    """A file to import is missing, empty, cut off or not what its mapping expects. The message says where, and the fix."""


class ServiceError(MillraceError):
    """A local server could not be fetched, started or stopped. Exit 2; the message has the end of the server's log."""


class ContractError(MillraceError):
    """Two parts that must agree do not; going on would give wrong answers. The message has an operator action."""


class UnknownLayoutError(ContractError):
    """A blob has a layout that has not been learned: a worker with another catalogue may have come since the last look."""


class EngineNotHereError(ContractError):
    """An engine cannot run this model on this machine: no library, no GPU, or nothing built for it. The message says which."""
