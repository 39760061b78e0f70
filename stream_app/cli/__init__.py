"""The sub-commands of `millrace`. Each is a thin module of this package, which is imported when the sub-command is called.

`millrace --help` prints `COMMANDS` and imports no sub-command. A module holds one click command with the sub-command's name; it
parses the options, loads the settings, and calls the package that does the work.
"""

from __future__ import annotations

from typing import Final

# sub-command -> (module of this package, one line of help), in the order in which a newcomer needs them
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("serve.demo", "Run a whole deployment on this machine and watch live answers."),
    "services": ("serve.services", "Start, stop and show the local Kafka and Redis."),
    "topics": ("operate.topics", "Create, describe or check the Kafka topics."),
    "worker": ("serve.worker", "Score events: Kafka in, three answers out."),
    "simulate": ("serve.simulate", "Produce the events of a simulated shop with fraud."),
    "import": ("logs.import_", "Produce the events of a log file (CSV, JSON lines, Parquet)."),
    "record": ("operate.record", "Write the topics of a live run to files."),
    "validate": ("logs.validate", "Check a log: order, duplicates, gaps, clocks, leakage and more."),
    "sort": ("logs.sort", "Write a log as one event table (Parquet), for fast replays."),
    "replay": ("logs.replay", "Score a log, or a recorded live run, on the live path."),
    "snapshot": ("operate.snapshot", "Write the live state to a file that a replay can start from."),
    "diff": ("logs.diff", "Compare a replay with a live run; name the first difference."),
    "backtest": ("logs.backtest", "Evaluate models, rules and thresholds on a log with late labels."),
    "train": ("logs.train", "Train a model on a log and write the artefact for the worker."),
    "models": ("operate.models", "List models; promote, roll back, challenge or shadow one."),
    "tail": ("operate.tail", "Print the records of a topic as they arrive."),
    "features": ("operate.features", "Show features: the catalogue, a user's values, their cost."),
    "forget": ("operate.forget", "Erase one person's state, and prove it."),
    "doctor": ("operate.doctor", "Check services, topics, model and versions; propose fixes."),
    "warm": ("serve.warm", "Compile the features and load the model for a fast start."),
    "docs": ("operate.docs", "Write the generated documents, or check that they are fresh."),
}
