"""Encoders: raw tensors in, finite floats of a moderate range out, for any input.

A feature may be NaN or infinite, a code may be out of its vocabulary, a sequence may be all padding: that row's result is finite,
and the other rows of the batch do not change.
"""
