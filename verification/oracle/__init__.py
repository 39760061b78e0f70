"""The reference for features and state: a brute-force scan of raw events that shares no code with the engine.

It reads `stream_app.events` and the declared catalogue, which are data, and computes from the sentences of
stream_app/features/declarations.py. It keeps every event, knows no increments, and is slow. Tests compare the engine with it
event by event; `verification.e2e` compares the stored state of a run with what the oracle makes of the raw files.

- `facts`: what one event holds: measures, entity keys, codes.
- `readings`: the value of each aggregation over a list of facts.
- `state`: the state that a list of facts makes.
- `replay`: events one after the other, as the engine gets them; and the state of a whole log.
"""
