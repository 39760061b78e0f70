"""Log files to source topics: rows of CSV, Parquet and JSON lines become events by a declarative mapping.

Every row ends as events, or as a counted refusal with its reason. A killed import resumes after the last
acknowledged row; repeated rows have the same event ids.
"""
