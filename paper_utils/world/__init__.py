"""The synthetic population with known truth that stands in for licensed data."""
