"""Jinja's compiler is asked once for a text, and gives what it would have given."""

import inspect

from jinja2 import DictLoader, Environment, StrictUndefined

from dockyard.rendering.compiling import SETTINGS, compiled_once

SQUARE = {"variable_start_string": "[[", "variable_end_string": "]]"}


# What an environment is made with and its compiler does not heed.
NOT_COMPILED = {"self", "loader", "cache_size", "auto_reload", "bytecode_cache"}
# The argument, and what the environment calls it.
RENAMED = {"enable_async": "is_async"}


def test_no_setting_of_jinja_is_forgotten() -> None:
    known = set(inspect.signature(Environment.__init__).parameters) - NOT_COMPILED

    assert {RENAMED.get(name, name) for name in known} == set(SETTINGS)


def test_a_text_is_compiled_once_for_environments_that_are_alike() -> None:
    with compiled_once():
        first, second = (
            Environment(autoescape=True).compile("hello {{ name }}, alike") for _ in range(2)
        )
    assert first is second


def test_environments_of_another_kind_have_code_of_their_own() -> None:
    text = "{{ name }} [[ name ]]"
    with compiled_once():
        for _ in range(2):
            assert (
                Environment(autoescape=True).from_string(text).render(name="<") == "&lt; [[ name ]]"
            )
            unescaped = Environment(autoescape=False)  # noqa: S701 - that is the point
            assert unescaped.from_string(text).render(name="<") == "< [[ name ]]"
            assert (
                Environment(autoescape=True, **SQUARE).from_string(text).render(name="a")
                == "{{ name }} a"
            )


def test_the_same_code_takes_what_each_environment_holds() -> None:
    answers = []
    with compiled_once():
        for word in ("one", "two"):
            environment = Environment(
                autoescape=True, undefined=StrictUndefined, loader=DictLoader({"file": "{{ f() }}"})
            )
            environment.globals["f"] = lambda word=word: word
            answers.append(environment.get_template("file").render())
    assert answers == ["one", "two"]


def test_afterwards_everything_is_as_before() -> None:
    before = Environment.compile
    with compiled_once():
        assert Environment.compile is not before
    assert Environment.compile is before
