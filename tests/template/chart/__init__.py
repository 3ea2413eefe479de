"""The Helm chart of a rendered service: what it renders, what it refuses, and that both fit the chassis."""
