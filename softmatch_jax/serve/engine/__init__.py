"""What owns the models: requests in, answers out, and a bounded queue between."""
