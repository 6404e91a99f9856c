"""Tables and figures of the paper: what they take, and how they are written."""
