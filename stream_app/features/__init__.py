"""Features: a declared catalogue, compiled into a layout, folded over events by one loop. The way in is engine.FeatureEngine."""
