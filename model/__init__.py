"""The network and the contract it is served by; only `model.contract` and `model.presets` are free of torch."""
