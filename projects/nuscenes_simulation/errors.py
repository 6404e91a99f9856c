"""Errors of the simulation that the user can fix."""


class SimulationError(RuntimeError):
    """The data set cannot be simulated, for example because its folder cannot be written."""


class SettingsError(SimulationError, ValueError):
    """An invalid setting or argument."""
