"""Log files to source topics: rows of CSV, Parquet and JSON lines become events by a declarative mapping.

Every row ends as events, or as a counted refusal with its reason. An import that was killed goes on where the broker had
acknowledged everything; what it repeats bears the same event ids.
"""
