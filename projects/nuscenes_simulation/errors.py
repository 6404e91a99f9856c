"""The error that the simulation raises for its user."""


class SimulationError(RuntimeError):
    """A setting that cannot be simulated, or a folder that cannot be written to."""
