"""librdkafka's mock cluster, through ctypes: a Kafka broker in this process, from the confluent-kafka wheel.

Records are in memory, at most 5 MB for each partition. It supports the requests of Kafka 2.3 without CreateTopics, so topics are
created here only, and does not enforce read_committed. Its threads are C threads, which do not need Python's lock.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stream_app.errors import ServiceError

_PRODUCER = 0  # rd_kafka_type_t: the client handle that the cluster hangs on; it is not used as one
_ERROR_BYTES = 512
_QUIET = {b"log_level": b"2"}  # critical only: clients that come and go are no news


@contextmanager
def mock_broker(topics: Mapping[str, int]) -> Iterator[str]:
    """Run a broker with `topics` (name: count of partitions) while inside; yields its address, host:port.

    Raises:
        ServiceError: The library is missing, or refuses a topic.
    """
    library = _library()
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    conf = library.rd_kafka_conf_new()
    for key, value in _QUIET.items():
        library.rd_kafka_conf_set(conf, key, value, error, _ERROR_BYTES)
    client = library.rd_kafka_new(_PRODUCER, conf, error, _ERROR_BYTES)
    if not client:
        msg = f"librdkafka could not make a client: {error.value.decode()}"
        raise ServiceError(msg)
    try:
        cluster = library.rd_kafka_mock_cluster_new(client, 1)
        if not cluster:
            msg = "librdkafka could not start its mock broker"
            raise ServiceError(msg)
        try:
            library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
            _create(library, cluster, topics)
            yield library.rd_kafka_mock_cluster_bootstraps(cluster).decode().split(",")[0]
        finally:
            library.rd_kafka_mock_cluster_destroy(cluster)
    finally:
        library.rd_kafka_destroy(client)


def _create(library: ctypes.CDLL, cluster: int, topics: Mapping[str, int]) -> None:
    for name, partitions in topics.items():
        # It would quietly take a default for a count below 1.
        code = library.rd_kafka_mock_topic_create(cluster, name.encode(), partitions, 1) if partitions > 0 else None
        if code != 0:
            why = "at least 1 is needed" if code is None else library.rd_kafka_err2str(code).decode()
            msg = f"the embedded broker refused topic {name!r} with {partitions} partitions: {why}"
            raise ServiceError(msg)


def _library() -> ctypes.CDLL:
    """Load the library file that the confluent_kafka extension itself uses, and declare the functions that are called."""
    library = ctypes.CDLL(str(_library_path()))
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    signatures: dict[str, tuple[object, list[object]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (ctypes.c_int, [pointer, text, text, text, size]),
        "rd_kafka_new": (pointer, [ctypes.c_int, pointer, text, size]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_err2str": (text, [ctypes.c_int]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, ctypes.c_int]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_topic_create": (ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _library_path() -> Path:
    found = importlib.util.find_spec("confluent_kafka")
    if found is None or found.origin is None:
        msg = "the package confluent-kafka is missing; install Millrace with its dependencies"
        raise ServiceError(msg)
    package = Path(found.origin).parent
    # auditwheel (Linux) and delocate (macOS) put a wheel's libraries into these folders.
    places = (package.parent / "confluent_kafka.libs", package / ".dylibs")
    for place in places:
        for path in sorted(place.glob("librdkafka*")):
            return path
    looked = " or ".join(map(str, places))
    msg = f"no librdkafka in {looked}: confluent-kafka was not installed from a wheel; reinstall it as one"
    raise ServiceError(msg)
