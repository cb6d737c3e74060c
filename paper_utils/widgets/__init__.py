"""Explorers for the notebooks: pictures with sliders, one file a paper, `explorer` what they share."""
