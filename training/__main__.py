"""Train a network and build its artefact: `python -m training --help`."""

from __future__ import annotations

from training.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main(prog_name="python -m training")
