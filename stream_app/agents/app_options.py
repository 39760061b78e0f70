"""A Faust app with the settings that the guarantee and the speed rest on, and our own way to run it.

No file is written outside the work folder; without one a temporary folder is made and removed at exit. The web server
is off unless a port is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import faust
import mode
from faust.sensors.prometheus import setup_prometheus_sensors

from stream_app.agents.source_agent import SourceAgent
from stream_app.agents.transport import build_transport

if TYPE_CHECKING:
    from pathlib import Path

    from faust.web import Request, Response, View

    from stream_app.agents.options import AgentOptions
    from stream_app.agents.ports import AssignmentHooks, BatchHandler
    from stream_app.agents.transport import ChunkConsumer

__all__ = ["faust_app", "source_app"]

_REQUEST_TIMEOUT_S = 90.0


def faust_app(options: AgentOptions, data_dir: Path) -> faust.App:
    """Build the app: no agents yet, stock transport.

    Args:
        options: All that varies.
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
    return app


def source_app(options: AgentOptions, hooks: AssignmentHooks, handler: BatchHandler, data_dir: Path) -> faust.App:
    """Build the whole Faust side: app, chunked transport and the source agent."""
    app = faust_app(options, data_dir)
    build_transport(app, options, hooks)
    SourceAgent(app, options, handler)
    return app


def _add_pages(app: faust.App) -> None:
    setup_prometheus_sensors(app, pattern="/metrics")

    @app.page("/healthz")
    async def healthz(view: View, request: Request) -> Response:
        consumer = cast("ChunkConsumer", app.consumer)
        healthy = not app._crashed.is_set() and not app.should_stop
        state: dict[str, Any] = {"healthy": healthy, "assignment": consumer.generation}
        state["commit_age_s"] = round(consumer.commit_age_s(), 3)
        return view.json(state, status=200 if healthy else 503)
