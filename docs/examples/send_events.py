"""Send events, one JSON object a line: python send_events.py BOOTSTRAP TOPIC < orders.jsonl"""

import json
import sys

from confluent_kafka import Producer

failures = []
settings = {
    "bootstrap.servers": sys.argv[1],
    "partitioner": "murmur2_random",  # the partition that Java's clients choose; librdkafka's own default is another
    "enable.idempotence": True,  # acks=all; a retry of the client neither repeats nor reorders
    "on_delivery": lambda error, _record: error and failures.append(error),
}
producer = Producer(settings)
for line in sys.stdin.buffer:
    producer.produce(sys.argv[2], key=json.loads(line)["user"], value=line.strip())
    producer.poll(0)
producer.flush()
sys.exit(f"{len(failures)} events were not delivered, the first: {failures[0]}" if failures else 0)
