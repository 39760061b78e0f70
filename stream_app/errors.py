"""Every error that Millrace raises on purpose, grouped by what the worker does next.

    MillraceError
    |-- ConfigError            exit 2 before any event is read; the message lists every problem at once
    |-- InvalidEventError      the event goes to `dead-letters`; the worker goes on
    |-- RetryableError         nothing was applied; wait and try again, or restart from the store's front
    |   |-- StoreUnavailableError
    |   |-- BrokerUnavailableError
    |   |-- AbandonedError      an earlier batch failed before its commit, so this batch is abandoned too
    |   `-- StoreRolledBackError   the store is behind this worker's commits: restart from the store's front
    |-- ModelFailedError       the model gave no usable answer for a batch: rules alone answer it, marked `degraded`
    |   `-- EngineLostError      the GPU's engine failed for good: the CPU takes over
    |-- FencedError            another worker owns the partition group now: drop the batch, apply nothing
    |-- InputFileError         a command cannot read a file to its end; the records before count
    |-- ServiceError           a local Kafka or Redis cannot be fetched, started or stopped; the message says how to fix it
    `-- ContractError          two parts disagree (catalogue and model, topics and store): stop and say how to fix it
        |-- UnreadableBatchError  a batch of a topic is damaged, or of an unknown codec: stop and name it
        |-- UnknownLayoutError    state of an unknown catalogue: read the store's layouts once, then stop
        `-- EngineNotHereError    this machine cannot run the engine; `auto` takes the next engine, else stop

Adapters translate the exceptions of third-party clients at their edge; no code above them names a client library.
"""

from __future__ import annotations


class MillraceError(Exception):
    """Base class; catch it only to print its message and exit."""


class ConfigError(MillraceError):
    """The settings are wrong. The worker exits before it reads an event."""


class InvalidEventError(MillraceError):
    """The bytes are not an event of their topic. The original goes to `dead-letters` with this message as the reason.

    Args:
        message: What is wrong, for a person.
        kind: One of few words for it, for a metric.
    """

    def __init__(self, message: str, kind: str = "other") -> None:
        super().__init__(message)
        self.kind = kind


class RetryableError(MillraceError):
    """Nothing was applied; the same step may be tried again."""


class StoreUnavailableError(RetryableError):
    """The store did not answer in time, or closed the connection."""


class BrokerUnavailableError(RetryableError):
    """The broker did not acknowledge in time."""


class AbandonedError(RetryableError):
    """An earlier batch of the group failed before its commit, so this batch was abandoned; both are read again."""


class StoreRolledBackError(RetryableError):
    """The store holds an older state than this worker has committed: it lost its last writes or was restored."""


class ModelFailedError(MillraceError):
    """The model failed or gave no usable answer for one batch; a worker answers that batch by rules alone."""


class EngineLostError(ModelFailedError):
    """The engine failed for good: out of memory, device lost, or hung.

    Args:
        reason: One of "out_of_memory", "device_lost", "hang".
        message: What happened.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class FencedError(MillraceError):
    """The store refused a write because another worker has claimed the partition group since."""


class InputFileError(MillraceError):
    """An input file is missing, empty, truncated or does not fit its mapping. The message says where, and the fix."""


class ServiceError(MillraceError):
    """A local server could not be fetched, started or stopped. Exit 2; the message has the end of the server's log."""


class ContractError(MillraceError):
    """Two parts that must agree do not; going on would give wrong answers. The message names an operator action."""


class UnknownLayoutError(ContractError):
    """A blob has an unknown layout: a worker with another catalogue may have started since the last read of layouts."""


class EngineNotHereError(ContractError):
    """An engine cannot run this model on this machine: no library, no GPU, or no plan for it. The message says which."""


class UnreadableBatchError(ContractError):
    """A batch of records is damaged, or compressed in a way that this installation does not know.

    Args:
        partition: Topic and partition, as `orders-3`.
        offset: Its first record that is not read.
        why: What the client library says.
    """

    def __init__(self, partition: str, offset: int, why: str) -> None:
        super().__init__(
            f"{partition}, offset {offset}: the batch of records cannot be read ({why}), so nothing from there on is read; "
            "see 'A batch cannot be read' in docs/runbook.md"
        )
