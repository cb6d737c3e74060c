"""Shared code of the ten paper notebooks: the frame, the training loop, metrics, data, and one file per paper in `methods`."""

__version__ = "0.1.0"
