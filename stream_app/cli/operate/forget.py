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

__all__ = ["forget"]

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
    "--wait", "wait_s", type=click.IntRange(1, 86_400), default=60, show_default=True, help="Seconds to try for a proof."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@click.pass_context
def forget(ctx: click.Context, user: str, wait_s: int, as_json: bool) -> None:
    """Erase what the store keeps of USER (state, sequence, sessions, kept answers), and prove it by reading again.

    USER is the id as it stands in the events. Workers may run; what the user does while this runs may be erased too, what they
    do after its end is kept. Exit status 1 if it could not be proved in time: call it again. What is kept elsewhere, and until
    when, is printed; see docs/privacy.md.
    """
    import msgspec

    from stream_app.events import Id

    try:
        msgspec.convert(user, Id)
    except msgspec.ValidationError as err:
        msg = f"{user!r} can be no user's id: {err}"
        raise click.BadParameter(msg, param_hint="USER") from err
    settings = cli_settings(announce=not as_json)
    done = asyncio.run(_forget(settings, user, wait_s * 1000))
    if as_json:
        click.echo(json.dumps(_as_json(settings, user, done)))
    else:
        click.echo("\n".join(_as_text(settings, user, done)))
    ctx.exit(0 if done.proved else 1)


async def _forget(settings: Settings, user: str, total_ms: int) -> ForgetReport:
    from stream_app import wiring
    from stream_app.admin.forget import ForgetTimeouts, forget
    from stream_app.clock import SystemClock

    engine = wiring.build_engine(settings)
    store = wiring.build_store(settings, wiring.shared_kinds(engine))
    # A worker that is silent for longer than the session timeout has lost its partitions.
    patience = ForgetTimeouts(total_ms, settings.kafka.session_timeout_ms)
    try:
        return await forget(store, engine, _digest(settings, user), user, settings.kafka.partitions, SystemClock(), patience)
    finally:
        await store.close()


def _digest(settings: Settings, user: str) -> bytes:
    from stream_app.privacy import Pseudonymizer

    return Pseudonymizer(settings.privacy.id_key.get_secret_value().encode()).digest("user", user)


def _shared_kinds() -> dict[str, int]:
    """The kinds of entities that many users share, with the days that they are kept after their last event."""
    from stream_app.features.catalog import CATALOGUE

    return {kind.name: kind.ttl_ms // _DAY_MS for kind in CATALOGUE.kinds if kind.shared}


def _as_json(settings: Settings, user: str, done: ForgetReport) -> dict[str, object]:
    from stream_app.codec.topics import TOPICS

    return {
        "user": user,
        "group": done.group,
        "groups": list(done.groups),
        "erased": {kind: count for kind, count in done.erased.items() if count},
        "left": {
            "since_the_call_ms": done.oldest_ms,
            "answers_not_published": [list(place) for place in done.waiting],
            "shared_entities_days": _shared_kinds(),
            "topics_days": {
                settings.topic(spec.name): spec.retention_ms // _DAY_MS
                for spec in TOPICS
                if spec.payload.__name__ != "JournalLine"
            },
        },
        "proved": done.proved,
    }


def _as_text(settings: Settings, user: str, done: ForgetReport) -> list[str]:
    from stream_app.codec.topics import TOPICS

    places = ", ".join(map(str, done.groups))
    found = ", ".join(f"{count} {kind}" for kind, count in done.erased.items() if count) or "nothing was there"
    pattern = f"{settings.redis.prefix}:{{g{done.group}}}:*:{_digest(settings, user).hex()}*"
    shared = ", ".join(f"{name} {days}" for name, days in _shared_kinds().items())
    topics: dict[int, list[str]] = {}
    for spec in TOPICS:
        if spec.name != "journal":
            topics.setdefault(spec.retention_ms // _DAY_MS, []).append(settings.topic(spec.name))
    return [
        f"user {user}, partition group {places}",
        f"erased: {found}",
        *_verdict(done),
        f"look yourself: redis-cli --scan --pattern '{pattern}'",
        "",
        "what is kept elsewhere:",
        "- state of shared entities: no ids, but sums, and keyed hashes of the user in distinct counts; until their windows have",
        f"  passed, at the latest so many days after the entity's last event: {shared}",
        "- Kafka, under the user's id as key, for so many days (the topics' retention):",
        *(f"  {days}: {', '.join(names)}" for days, names in sorted(topics.items())),
        "  A record cannot be taken out of a topic. Sooner: kafka-delete-records (all before an offset), or a shorter",
        "  retention.ms for a while.",
        "  Who scores a topic anew from its beginning makes the state again: then forget again.",
        "- backups of Redis, exported data sets, and what subscribers have kept: see docs/privacy.md",
    ]


def _verdict(done: ForgetReport) -> list[str]:
    lines = [f"seen: {seen}" for seen in done.seen.values()]
    if done.proved:
        since = (
            "" if done.oldest_ms is None else f"; the user has come back, their state begins at event time {done.oldest_ms} now"
        )
        return [*lines, f"proved: read again, nothing of the time before the call is left in the store{since}"]
    if done.waiting:
        waits = ", ".join(f"commit {commit} of group {group}" for group, commit in done.waiting)
        lines.append(f"not published yet, and not taken out before they are: the answers of {waits}. Does a worker run?")
    if done.oldest_ms is not None:
        lines.append(
            f"state from event time {done.oldest_ms} was made anew while this ran: a worker reads events of the time before. "
            "Wait until there is no lag (millrace doctor)"
        )
    return [*lines, "NOT PROVED: call it again, with a longer --wait"]
