"""Watch a running deployment: tail a topic, the demo's dashboard and its scoreboard."""
