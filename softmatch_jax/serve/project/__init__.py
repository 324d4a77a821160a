"""A project on disk: documents, the log of what was done to them, pictures and rasters."""
