"""Read checkpoint files safely, and match their weights with models."""
