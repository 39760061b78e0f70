"""Parsers of source files: columns, cells, declared labels, splits."""
