"""Training on real data outside the notebooks: published configurations as data, and what runs them.

`published` holds the numbers, `face_data` finds the files, `heads` builds heads whole or in shards, `face_recognition` trains and exports,
`evaluation` tests on pair lists and IJB. `python -m paper_utils.train` is the way in.
"""
