"""The same job as an ordinary Faust application does it, to be measured beside Millrace in the same run.

Written the way the tutorials write it, and carefully: one agent with a plain `async for` over the three topics,
counters in Redis hashes by time bucket (19 commands an event in one pipeline, expiry included), the shipped model run
by ONNX Runtime for each event, the 20 best of the artefact's items by one matrix product, three awaited sends of JSON.
It has none of the guarantees: a crash counts twice, and answers have no fence.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import faust
import msgspec
import numpy as np
import onnxruntime
import redis.asyncio
from numpy.typing import NDArray

from model.contract import INPUTS, SEQUENCE_LENGTH
from stream_app.events import ANSWER_TOPICS, INTENTS, SOURCE_TOPICS

_BUCKETS_MS = (60_000, 600_000, 3_600_000, 86_400_000)  # minute, ten minutes, hour, day
_EXPIRE_S = 172_800
_TOP = 20


class _Line(msgspec.Struct):
    item: str
    unit_price: float = 0.0


class _Event(msgspec.Struct):
    """The fields this job needs, of any of the three kinds."""

    event_id: str
    user: str
    event_time_ms: int
    device: str = ""
    item: str = ""
    price: float = 0.0
    amount: float = 0.0
    lines: list[_Line] = []


@dataclass(slots=True)
class _Model:
    """The artefact: the network and the item vectors."""

    session: onnxruntime.InferenceSession
    width: int  # number of dense features
    item_ids: NDArray[np.str_]  # (N,)
    item_vectors: NDArray[np.float32]  # (N, D)

    @classmethod
    def load(cls, folder: Path) -> _Model:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        width = next(i.shape[1] for i in session.get_inputs() if i.name == "dense")
        items = np.load(folder / "items.npz")
        return cls(session, width, items["item_ids"], items["item_vectors"])

    def score(self, values: list[float]) -> tuple[float, str, list[str]]:
        """Return fraud probability, intent, and the best items of one event."""
        # What it has no counters for stays empty: the network costs the same whatever stands in its inputs.
        shapes = {spec.name: tuple(self.width if size < 0 else size for size in spec.shape) for spec in INPUTS}
        feeds = {spec.name: np.zeros((1, *shapes[spec.name]), spec.dtype) for spec in INPUTS}
        feeds["dense"][0, : len(values)] = values[: self.width]
        fraud, intent, vector = self.session.run(["fraud", "intent", "user_vector"], feeds)
        scores = self.item_vectors @ vector[0]
        best = np.argpartition(scores, -_TOP)[-_TOP:]
        best = best[np.argsort(scores[best])[::-1]]
        return float(fraud[0]), INTENTS[int(intent[0].argmax())], self.item_ids[best].tolist()


def build_app(bootstrap: str, redis_url: str, prefix: str, model_folder: Path) -> faust.App:
    """Return the application; topics are named with `prefix`, and so are group and keys."""
    app = faust.App(
        f"{prefix}idiomatic",
        broker=f"kafka://{bootstrap}",
        value_serializer="raw",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
    )
    sources = app.topic(*(prefix + name for name in SOURCE_TOPICS), value_serializer="raw")
    alerts, labels, candidates = (app.topic(prefix + name, value_serializer="raw") for name in ANSWER_TOPICS)
    store = redis.asyncio.Redis.from_url(redis_url)
    model = _Model.load(model_folder)
    decode, encode = msgspec.json.Decoder(_Event).decode, msgspec.json.Encoder().encode

    @app.agent(sources)
    async def score(stream: Any) -> None:  # noqa: ANN401  # a faust stream
        async for record in stream.events():
            event = decode(record.value)
            history = await _count(store, prefix, event)
            fraud, intent, items = model.score(history)
            answer = {
                "answer_id": f"{record.message.topic}-{record.message.partition}-{record.message.offset}",
                "event_id": event.event_id,
                "user": event.user,
                "event_time_ms": event.event_time_ms,
                "ingest_time_ms": int(record.message.timestamp * 1000),
                "scored_time_ms": time.time_ns() // 1_000_000,
                "model_version": "demo",
            }
            key = event.user.encode()
            await alerts.send(key=key, value=encode({**answer, "probability": fraud}))
            await labels.send(key=key, value=encode({**answer, "intent": intent}))
            await candidates.send(key=key, value=encode({**answer, "items": items}))

    return app


async def _count(store: redis.asyncio.Redis, prefix: str, event: _Event) -> list[float]:
    """Add the event to its user's and device's buckets, and return what they held: 19 commands in one round trip."""
    amount = event.amount or event.price
    item = event.lines[0].item if event.lines else event.item
    pipe = store.pipeline(transaction=False)
    for length_ms in _BUCKETS_MS:  # 16 commands
        key = f"{prefix}user:{event.user}:{length_ms}:{event.event_time_ms // length_ms}"
        pipe.hgetall(key)
        pipe.hincrby(key, "count", 1)
        pipe.hincrbyfloat(key, "amount", amount)
        pipe.expire(key, _EXPIRE_S)
    last = f"{prefix}last:{event.user}"
    pipe.lrange(last, 0, SEQUENCE_LENGTH - 1)
    pipe.lpush(last, item)
    pipe.ltrim(last, 0, SEQUENCE_LENGTH - 1)
    answers = await pipe.execute()
    values: list[float] = []
    for fields in answers[0 : 4 * len(_BUCKETS_MS) : 4]:
        values += (float(fields.get(b"count", 0)), float(fields.get(b"amount", 0)))
    return [*values, float(len(answers[4 * len(_BUCKETS_MS)]))]


@click.command()
@click.option("--bootstrap", required=True, help="The broker, host:port.")
@click.option("--redis-url", required=True)
@click.option("--prefix", required=True, help="What stands before topic names and keys.")
@click.option("--model", "model_folder", type=click.Path(path_type=Path, exists=True), required=True)
def main(bootstrap: str, redis_url: str, prefix: str, model_folder: Path) -> None:
    """Run the application until SIGTERM."""
    app = build_app(bootstrap, redis_url, prefix, model_folder)
    faust.Worker(app, loglevel="warning", quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main()
