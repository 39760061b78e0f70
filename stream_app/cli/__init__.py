"""The sub-commands of `millrace`, each a thin module of this package that is imported only when it is called.

`COMMANDS` is what `millrace --help` shows, so that showing it imports none of them. A module holds one click command
with the sub-command's name; it parses, loads the settings, and calls the package that does the work.
"""

from __future__ import annotations

from typing import Final

__all__ = ["COMMANDS"]

# sub-command -> (module of this package, one line of help), in the order in which a newcomer needs them
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("serve.demo", "Run everything on this machine and watch live answers."),
    "services": ("serve.services", "Start, stop and show the local Kafka and Redis."),
    "topics": ("operate.topics", "Create, describe or check the Kafka topics."),
    "worker": ("serve.worker", "Score events: Kafka in, three answers out."),
    "simulate": ("serve.simulate", "Produce the events of a simulated shop, with its fraud."),
    "import": ("logs.import_", "Produce the events of a log file (CSV, JSON lines, Parquet)."),
    "record": ("operate.record", "Write what a live run's topics hold to files."),
    "validate": ("logs.validate", "Check a log: order, duplicates, gaps, clocks, leakage and more."),
    "sort": ("logs.sort", "Write a log as one file of columns, for logs that are replayed often."),
    "replay": ("logs.replay", "Run a log, or a recorded live run, through the live path."),
    "snapshot": ("operate.snapshot", "Write the live state to a file, for a replay to begin with."),
    "diff": ("logs.diff", "Name the first event and feature that a replay has otherwise."),
    "backtest": ("logs.backtest", "Judge models, rules and thresholds on a log, with late labels."),
    "train": ("logs.train", "Train a model on a log, and build what a worker loads."),
    "models": ("operate.models", "Which models there are, and which serves: promote, roll back, shadow."),
    "tail": ("operate.tail", "Show the records of a topic as they come."),
    "features": ("operate.features", "Show features: all of them, one user's, what they cost."),
    "forget": ("operate.forget", "Erase one person's state, and prove it."),
    "doctor": ("operate.doctor", "Check services, topics, model and versions; say what to do."),
    "warm": ("serve.warm", "Compile and load once, so that the next start is fast."),
    "docs": ("operate.docs", "Write the generated documents, or check that they are fresh."),
}
