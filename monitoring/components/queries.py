"""Queries that several components ask."""


def rate(name: str, job: str, *by: str) -> str:
    return f'sum by ({", ".join(by)}) (rate({name}{{job="{job}"}}[$__rate_interval]))'


def gauges(how: str, name: str, job: str, *by: str) -> str:
    return f'{how} by ({", ".join(by)}) ({name}{{job="{job}"}})'
