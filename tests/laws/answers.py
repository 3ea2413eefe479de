"""Random answers to the questions of this repository's template, all of them allowed."""

from hypothesis import strategies as st

from tests.template.lab import QUESTIONS

_RESERVED = frozenset(
    f"{QUESTIONS['reserved_modules']['default']} {QUESTIONS['reserved_words']['default']}".split()
)
_HOSTS = st.from_regex(r"[a-z0-9]{1,9}(\.[a-z0-9]{1,9}){1,2}(:[1-9][0-9]{1,3})?", fullmatch=True)


def _name(separator: str, *, longest: int) -> st.SearchStrategy[str]:
    words = st.from_regex(
        rf"[a-z][a-z0-9]{{0,7}}({separator}[a-z0-9]{{1,7}}){{0,3}}", fullmatch=True
    )
    return words.filter(lambda name: len(name) <= longest and not _clashes(name))


def _clashes(name: str) -> bool:
    package = name.replace("-", "_")
    domain = package.removesuffix("_svc").removesuffix("_service")
    return not _RESERVED.isdisjoint({package, domain})


_sentences = st.text(
    st.characters(exclude_categories=("C", "Z"), include_characters=" "), min_size=1, max_size=200
).filter(lambda text: bool(text.strip()) and text.isprintable())


def _one_of(question: str) -> st.SearchStrategy[str]:
    choices = QUESTIONS[question]["choices"]
    return st.sampled_from([*choices.values()] if isinstance(choices, dict) else choices)


answers = st.fixed_dictionaries(
    {
        "service_name": _name("-", longest=40),
        "description": _sentences,
        "owner": _name("-", longest=40),
        "organisation": _name("_", longest=30),
        "bus": _one_of("bus"),
        "inbox": _one_of("inbox"),
        "http_api": st.booleans(),
        "python_version": _one_of("python_version"),
        "image_registry": st.builds(
            "{}{}".format,
            _HOSTS,
            st.from_regex(r"(/[a-z0-9]{1,9}([._-][a-z0-9]{1,5})?){0,2}", fullmatch=True),
        ),
        "repository_url": st.builds(
            "{}://{}{}".format,
            st.sampled_from(["http", "https"]),
            _HOSTS,
            st.from_regex(r"(/[A-Za-z0-9._~-]{1,12}){1,3}", fullmatch=True),
        ),
    }
).filter(lambda said: said["organisation"] != said["service_name"].replace("-", "_"))
"""An answer to each question. A template that asks more has its default for it."""
