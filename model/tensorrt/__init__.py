"""TensorRT for the builder of plans and for the worker: its interface as protocols, its import and its error log."""
