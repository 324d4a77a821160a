"""The web app: a project that is kept, an engine that owns the models, an API and a page."""
