"""One file a question that a user asks of a model."""
