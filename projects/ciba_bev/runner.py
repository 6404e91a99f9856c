"""Former name of :mod:`ciba_bev.engine`, which configs of version 0.1.0 import."""
