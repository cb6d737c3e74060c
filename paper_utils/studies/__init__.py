"""What each notebook trains: one file a paper, above the methods, below the notebooks and `paper_utils.train`."""
