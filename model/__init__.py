"""The network and the contract it is served by; `model.contract`, `presets`, `tasks` and `inputs` are free of torch."""
