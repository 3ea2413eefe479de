"""All services of an organisation at once: which there are, how they stand, and one update for all of them.

`roster` says which, `stand` and `advance` do one service each, `run` does all of them in parallel, isolated from each
other; `record`, `show` and `report` say what came out.
"""
