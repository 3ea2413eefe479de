"""All services of an organisation at once: which there are, how they stand, one update for all.

`roster` says which; `status` and `update` do one service each; `run` does all of them in parallel,
isolated from each other; `record`, `show` and `report` say what came out.
"""
