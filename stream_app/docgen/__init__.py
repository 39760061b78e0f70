"""Generate the documents: topics page, JSON Schemas, AsyncAPI, features page, settings page."""
