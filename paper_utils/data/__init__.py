"""Loaders of real data, one file per official layout or bundled set; every loader returns the sample types of `world`."""
