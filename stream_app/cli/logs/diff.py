"""`millrace diff`: compares the answers and features of a live run with those of a replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from stream_app.replay.compare import ReplayDifferences

_SHOWN_FIELDS: Final = 20
_EXAMPLES: Final = """\b
Examples:
  millrace record recorded                                     the topics of a live run
  millrace replay --order journal recorded --out replayed
  millrace diff recorded replayed                              exit status 0: identical to the bit
  millrace diff recorded canonical --ignore scored_time_ms     how far the two orders differ
"""


@click.command("diff", epilog=_EXAMPLES)
@click.argument("live", type=click.Path(path_type=Path, file_okay=False))
@click.argument("replay", type=click.Path(path_type=Path, file_okay=False))
@click.option("--ignore", multiple=True, metavar="FIELD", help="A field of answers that may differ; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(live: Path, replay: Path, ignore: tuple[str, ...], as_json: bool) -> None:
    """Name the first event and feature that differ between LIVE and REPLAY; exit status 1 if any does."""
    from stream_app.features.catalog import CATALOGUE
    from stream_app.replay.compare import compare

    differences = compare(live, replay, [feature.name for feature in CATALOGUE.features], ignore)
    click.echo(json.dumps(differences.line()) if as_json else _described(differences))
    if not differences.same:
        raise SystemExit(1)


def _described(result: ReplayDifferences) -> str:
    compared = "answers and features" if result.features else "answers (a side has no features: set features.record before a run)"
    head = f"{result.events:,} events, {result.messages:,} messages compared: {compared}"
    if result.before:
        head += f"\n{result.before:,} events precede the snapshot that the replay started from: not compared"
    if result.same:
        return f"{head}\nthe same, to the bit"
    messages = f"{result.missing:,} messages are missing, {result.extra:,} are too many"
    lines = [head, f"{result.differing_events:,} events differ; {messages}"]
    if result.unequal_repeats:
        lines.append(f"{result.unequal_repeats:,} messages are on one side twice, with different content")
    lines += [f"  {count:>9,}  {name}" for name, count in result.fields.most_common(_SHOWN_FIELDS)]
    if result.first is not None:
        first = result.first
        lines.append(f"the first: {first['answer_id']}, event time {first['event_time_ms']}")
        lines += [
            f"  {one['topic']}: {one['field']}: live {one['live']!r}, replay {one['replay']!r}" for one in first["differences"]
        ]
    return "\n".join(lines)
