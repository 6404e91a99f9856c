"""Reading checkpoint files safely, and telling whether their weights belong to a model."""
