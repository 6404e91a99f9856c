"""One command that shows the whole method in a simulated world, and its report."""
