"""The Helm chart of a rendered service: its renders and refusals, and that both fit the chassis."""
