"""The tables and figures of the paper: their trainings, numbers and drawings."""
