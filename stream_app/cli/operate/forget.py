"""`millrace forget`: erases one person's state and proves it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import click

from stream_app.cli.settings import cli_settings

if TYPE_CHECKING:
    from stream_app.admin.forget import ForgetReport
    from stream_app.config import Settings

_DAY_MS: Final = 86_400_000
_EXAMPLES: Final = """\b
Examples:
  millrace forget u-1042
  millrace forget u-1042 --json
  millrace forget u-1042 --wait 300       # while a backlog of events is being read
"""


@click.command("forget", epilog=_EXAMPLES)
@click.argument("user")
@click.option(
    "--wait", "wait_s", type=click.IntRange(1, 86_400), default=60, show_default=True, help="Time limit of the proof, in seconds."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@click.pass_context
def forget(ctx: click.Context, user: str, wait_s: int, as_json: bool) -> None:
    """Erase the stored data of USER (state, sequence, sessions, answers), and prove it by reading again.

    USER is the user's id in the events. Workers may run. Activity of the user while this runs may be erased too; later activity
    stays. Exit status 1: not proved in time, so call it again. The output lists where else data of the user is stored, and for
    how long; see docs/privacy.md.
    """
    import msgspec

    from stream_app.events import Id

    try:
        msgspec.convert(user, Id)
    except msgspec.ValidationError as err:
        msg = f"{user!r} is not a valid user id: {err}"
        raise click.BadParameter(msg, param_hint="USER") from err
    settings = cli_settings(announce=not as_json)
    report = asyncio.run(_forget(settings, user, wait_s * 1000))
    if as_json:
        click.echo(json.dumps(_as_json(settings, user, report)))
    else:
        click.echo("\n".join(_as_text(settings, user, report)))
    ctx.exit(0 if report.proved else 1)


async def _forget(settings: Settings, user: str, total_ms: int) -> ForgetReport:
    from stream_app import wiring
    from stream_app.admin.forget import ForgetTimeouts, forget
    from stream_app.clock import SystemClock

    engine = wiring.build_engine(settings)
    store = wiring.build_store(settings, wiring.shared_kinds(engine))
    # A worker without a heartbeat for the session timeout loses its partitions.
    timeouts = ForgetTimeouts(total_ms, settings.kafka.session_timeout_ms)
    try:
        return await forget(store, engine, _digest(settings, user), user, settings.kafka.partitions, SystemClock(), timeouts)
    finally:
        await store.close()


def _digest(settings: Settings, user: str) -> bytes:
    from stream_app.privacy import Pseudonymizer

    return Pseudonymizer(settings.privacy.id_key.get_secret_value().encode()).digest("user", user)


def _shared_kinds() -> dict[str, int]:
    """Return the kinds of shared entities, with the days from their last event to expiry."""
    from stream_app.features.catalog import CATALOGUE

    return {kind.name: kind.ttl_ms // _DAY_MS for kind in CATALOGUE.kinds if kind.shared}


def _as_json(settings: Settings, user: str, report: ForgetReport) -> dict[str, object]:
    from stream_app.codec.topics import TOPICS

    return {
        "user": user,
        "group": report.group,
        "groups": list(report.groups),
        "erased": {kind: count for kind, count in report.erased.items() if count},
        "left": {
            "since_the_call_ms": report.oldest_ms,
            "answers_not_published": [list(place) for place in report.waiting],
            "shared_entities_days": _shared_kinds(),
            "topics_days": {
                settings.topic(spec.name): spec.retention_ms // _DAY_MS
                for spec in TOPICS
                if spec.payload.__name__ != "JournalLine"
            },
        },
        "proved": report.proved,
    }


def _as_text(settings: Settings, user: str, report: ForgetReport) -> list[str]:
    from stream_app.codec.topics import TOPICS

    groups = ", ".join(map(str, report.groups))
    erased = ", ".join(f"{count} {kind}" for kind, count in report.erased.items() if count) or "nothing was there"
    pattern = f"{settings.redis.prefix}:{{g{report.group}}}:*:{_digest(settings, user).hex()}*"
    shared = ", ".join(f"{name} {days}" for name, days in _shared_kinds().items())
    topics: dict[int, list[str]] = {}
    for spec in TOPICS:
        if spec.name != "journal":
            topics.setdefault(spec.retention_ms // _DAY_MS, []).append(settings.topic(spec.name))
    return [
        f"user {user}, partition group {groups}",
        f"erased: {erased}",
        *_verdict(report),
        f"to check: redis-cli --scan --pattern '{pattern}'",
        "",
        "stored elsewhere:",
        "- state of shared entities: no ids, but sums, and keyed hashes of the user in distinct counts; until the windows pass,",
        f"  at most so many days after the entity's last event: {shared}",
        "- Kafka, with the user's id as key, for so many days (the topics' retention):",
        *(f"  {days}: {', '.join(names)}" for days, names in sorted(topics.items())),
        "  A single record cannot be deleted. Sooner: kafka-delete-records (all records before an offset), or a shorter",
        "  retention.ms for a while.",
        "  A replay of a topic from its beginning creates the state again: then forget again.",
        "- backups of Redis, exported data sets, copies of subscribers: see docs/privacy.md",
    ]


def _verdict(report: ForgetReport) -> list[str]:
    lines = [f"seen: {seen}" for seen in report.seen.values()]
    if report.proved:
        since = (
            "" if report.oldest_ms is None else f"; the user is active again: their state begins at event time {report.oldest_ms}"
        )
        return [*lines, f"proved: read again, the store has no data from before the call{since}"]
    if report.waiting:
        waits = ", ".join(f"commit {commit} of group {group}" for group, commit in report.waiting)
        lines.append(f"not published yet, and not erased before that: the answers of {waits}. Does a worker run?")
    if report.oldest_ms is not None:
        lines.append(
            f"state from event time {report.oldest_ms} was created while this ran: a worker still reads earlier events. "
            "Wait until there is no lag (millrace doctor)"
        )
    return [*lines, "NOT PROVED: call it again, with a longer --wait"]
