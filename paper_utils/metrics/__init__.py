"""Evaluation: matching, verification, retrieval, and the intervals around every number."""
