"""Open one case for each fraud alert: python act_on_alerts.py BOOTSTRAP TOPIC GROUP DATABASE"""

import json
import sqlite3
import sys

from confluent_kafka import Consumer, KafkaException

bootstrap, topic, group, database = sys.argv[1:]
cases = sqlite3.connect(database)
cases.execute("CREATE TABLE IF NOT EXISTS cases (answer_id TEXT PRIMARY KEY, user TEXT, amount REAL, reasons TEXT)")
consumer = Consumer(
    {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
)
consumer.subscribe([topic])
while True:
    record = consumer.poll(1.0)
    if record is None:
        continue
    if record.error():
        raise KafkaException(record.error())
    alert = json.loads(record.value())
    if "duplicate_of" not in alert:
        reasons = ", ".join(f"{reason['feature']} {reason['value']:g}" for reason in alert["reasons"])
        case = (alert["answer_id"], alert["user"], alert["amount"], reasons)
        with cases:  # the case and its id are one row: no crash opens a case twice; the first of two alerts stays
            opened = cases.execute("INSERT OR IGNORE INTO cases VALUES (?, ?, ?, ?)", case).rowcount
        print("opened" if opened else "repeated", alert["answer_id"], flush=True)
    consumer.commit(record)  # after the case: a crash in between reads the alert again
