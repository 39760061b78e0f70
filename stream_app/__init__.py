"""Millrace scores the events of a shop as they happen: one event, one pass, three answers.

The life of an event, from Kafka's bytes to its acknowledged answers, one file at each step:

1. `agents/consumer_thread.py` - `ChunkThread.fetch`: takes the records that aiokafka fetched and cuts them into chunks.
2. `agents/transport.py` - `ChunkConsumer.getmany`: gives the chunks of one fetch to Faust as one message.
3. `agents/batching.py` - `SourceAgent.consume`: queues the chunks, from which `BatchScheduler` forms the next batch.
4. `agents/handler.py` - `ScoringHandler.handle`: drops what is applied, then prepares, scores, commits and publishes the batch.
5. `pipeline.py` - `Pipeline.prepare`: decodes and sorts the batch (step 6); then `Pipeline.score` runs steps 7 to 11.
6. `codec/decode.py` - `Decoder.decode`: turns bytes into a checked event, or names the reason for a dead letter.
7. `store/redis_store.py` - `RedisStore.read`: reads the state of the batch's entities; between steps 11 and 12 the handler calls
   `commit`, which writes state and answers.
8. `features/engine.py` - `FeatureEngine.fold`: reads each event's features from the state and adds the event to the state.
9. `inference/ranker.py` - `ModelRanker.rank`: calls the model and ranks its items; the docstring of `wiring.py` shows the
   rankers that wrap it.
10. `decision/decide.py` - `Decider.decide`: raises an alert by threshold or rule, with its reasons.
11. `outputs.py` - `OutputBuilder.build`: builds the answers, late events, dead letters and journal lines of the batch.
12. `agents/publisher.py` - `Publisher.publish`: sends the committed answers and waits until the broker has acknowledged all.

Afterwards `ChunkConsumer.acknowledge` (step 2) moves the acknowledged offset of each partition, and Faust commits Kafka's
offsets.
`tests/unit/stream_app/test_event_way.py` holds this list against the code.
"""

from __future__ import annotations

__version__ = "0.1.0"
