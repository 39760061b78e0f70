"""Train the network on simulated or recorded events: `python -m training --help`."""
