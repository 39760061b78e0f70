"""The state of an entity: its schema, its layout as a row of int64, its packed bytes, and migration between layouts."""
