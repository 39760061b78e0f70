"""Encoders: raw tensors in, floats of a sane range out. Every one answers something finite for any input.

A feature may be NaN or infinite, a code may be out of its vocabulary, a sequence may be all padding: that row's answer is finite,
and the other rows of the batch are left alone.
"""
