"""The Faust app: its settings, its transport, its agent and its web pages.

Guarantee and speed depend on these settings. Faust writes no file outside its data folder. The web server is off if the port is
0.
"""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING, Any, cast

import faust
import mode
from aiohttp.web import SockSite
from faust.sensors.prometheus import setup_prometheus_sensors
from faust.serializers.schemas import Schema

from stream_app.agents.batching import SourceAgent
from stream_app.agents.transport import ChunkTransport
from stream_app.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from faust.types import EventT, Message
    from faust.web import Request, Response, View

    from stream_app.agents.options import AgentOptions
    from stream_app.agents.ports import AssignmentHooks, BatchHandler
    from stream_app.agents.transport import ChunkConsumer

log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 90.0
_PORTS = 32


def faust_app(options: AgentOptions, data_dir: Path) -> faust.App:
    """Build the app: no agents yet, stock transport.

    Args:
        options: All settings that vary.
        data_dir: Folder for Faust's own files; must exist.
    """
    app = faust.App(
        options.group,
        broker=[f"kafka://{address.strip()}" for address in options.bootstrap.split(",")],
        broker_client_id=options.client_id,
        broker_session_timeout=options.session_timeout_ms / 1000,
        broker_heartbeat_interval=max(options.session_timeout_ms / 1000 / 4, 0.5),
        broker_rebalance_timeout=options.rebalance_timeout_ms / 1000,
        broker_request_timeout=max(_REQUEST_TIMEOUT_S, options.session_timeout_ms / 1000),
        broker_commit_interval=options.commit_interval_ms / 1000,
        consumer_group_instance_id=options.instance or None,
        stream_buffer_maxsize=options.buffer_chunks,
        stream_wait_empty=True,  # at a stop Faust then calls ChunkConsumer.wait_empty, the bounded drain
        agent_supervisor=mode.CrashingSupervisor,
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,  # topics are made by `millrace topics create`
        topic_disable_leader=True,
        table_standby_replicas=0,
        autodiscover=False,
        datadir=data_dir,
        web_enabled=options.web_port != 0,
        web_bind=options.web_host,
        web_port=options.web_port or 6066,
        web_router_enabled=False,
        web_tables_enabled=False,
        worker_redirect_stdouts=False,
        debug=False,
    )
    if options.web_port:
        _add_pages(app)
        web: Any = app.web
        web._transport_handlers["tcp"] = lambda: _site(app)
    return app


def source_app(options: AgentOptions, hooks: AssignmentHooks, handler: BatchHandler, data_dir: Path) -> faust.App:
    """Build the whole Faust side: the chunked transport feeds the source agent, whose scheduler calls the handler."""
    app = faust_app(options, data_dir)
    app.transport = ChunkTransport(app.conf.broker_consumer, app, options=options, hooks=hooks)
    SourceAgent(app, app.topic(*options.topics, schema=RawSchema()), options, handler)
    return app


class RawSchema(Schema):  # type: ignore[type-arg]  # generic over key and value; neither is decoded here
    """Passes chunks through; the pipeline decodes a whole batch at a time."""

    def compile(
        self,
        app: Any,  # noqa: ANN401  # Faust's signature
        *,
        on_key_decode_error: Any = None,  # noqa: ANN401
        on_value_decode_error: Any = None,  # noqa: ANN401
        default_propagate: bool = False,
    ) -> Callable[..., Awaitable[EventT[Any]]]:
        """Make the function that turns a message into an event."""
        create = app.create_event

        async def decode(message: Message, *, propagate: bool = default_propagate) -> EventT[Any]:
            event: EventT[Any] = create(message.key, message.value, message.headers, message)
            return event

        return decode


def _add_pages(app: faust.App) -> None:
    setup_prometheus_sensors(app, pattern="/metrics")

    @app.page("/healthz")
    async def healthz(view: View, request: Request) -> Response:
        consumer = cast("ChunkConsumer", app.consumer)
        healthy = not app._crashed.is_set() and not app.should_stop
        state: dict[str, Any] = {"healthy": healthy, "assignment": consumer.generation}
        state["commit_age_s"] = round(consumer.commit_age_s(), 3)
        return view.json(state, status=200 if healthy else 503)

    @app.page("/readyz")
    async def readyz(view: View, request: Request) -> Response:
        stopping = app._crashed.is_set() or app.should_stop
        reason = "the worker is stopping" if stopping else cast("ChunkConsumer", app.consumer).why_not_ready()
        return view.json({"ready": not reason, "reason": reason}, status=503 if reason else 200)


def _site(app: faust.App) -> SockSite:
    """Open the port of the settings, or the next free one: a second worker on a machine must not fail by its metrics."""
    host, first = app.conf.web_bind, app.conf.web_port
    for port in range(first, min(first + _PORTS, 65_536)):
        try:
            listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise ConfigError(f"worker.web_host {host} and worker.web_port {port} cannot be opened: {error.strerror}") from error
        log.info(
            "/metrics, /healthz and /readyz are on http://%s:%d%s", host, port, "" if port == first else f", {first} is taken"
        )
        return SockSite(cast("Any", app.web)._runner, listening)
    raise ConfigError(f"worker.web_port {first} and the {_PORTS - 1} ports after it are taken; choose another one, or 0 for none")
