"""The pytest plugin, in suites of its own: the backends, and the tests that are slow."""

import pytest

# pytester forgets the modules that a test imports first; this must stay the one that the other tests see.
import tinygen.testing.strict  # noqa: F401
from tests.host.suites import PLUGIN, run

# ---------------------------------------------------------------- backends


def test_the_backend_fixture_runs_a_test_on_each_backend(suite):
    suite.makepyfile("""
        from tinygen import backend as library

        def test_it(backend):
            assert library.current() is backend

        def test_without():
            pass
    """)
    result = run(suite, "-v", backend="numpy,strict")
    result.stdout.fnmatch_lines(["*::test_it?numpy? PASSED*", "*::test_it?strict? PASSED*", "*::test_without PASSED*"])
    result.assert_outcomes(passed=3)
    run(suite).assert_outcomes(passed=2)


def test_the_default_backends_are_numpy_and_strict(suite):
    suite.makepyfile("def test_it(backend): pass")
    result = suite.runpytest_subprocess(*PLUGIN, "--collect-only", "-q")  # looks for CuPy, in a process that ends
    result.stdout.fnmatch_lines(["*::test_it?numpy?", "*::test_it?strict?"])


def test_an_unknown_backend_is_a_usage_error(suite):
    suite.makepyfile("def test_it(backend): pass")
    result = run(suite, backend="numpy,stirct")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(['*--backend: backend "stirct" is unknown (did you mean "strict"?)*'])


def test_a_fixture_of_that_name_in_another_suite_is_left_alone(suite):
    suite.makepyfile("""
        import pytest

        @pytest.fixture
        def backend():
            return "a database"

        def test_it(backend):
            assert backend == "a database"
    """)
    run(suite).assert_outcomes(passed=1)


@pytest.mark.parametrize("settings", ["", "action='store_true', "])
def test_an_option_that_another_plugin_has_stays_that_plugins(suite, settings):
    options = ("--backend", "--slow", "--equations")
    registered = "".join(f"    parser.addoption('{name}', {settings}dest='their' + '{name[2:]}')\n" for name in options)
    suite.makepyfile(their_plugin=f"def pytest_addoption(parser):\n{registered}")
    suite.makepyfile("""
        import tinygen, pytest

        def test_it(backend, request):
            assert request.config.getoption("their" + "slow")

        @pytest.mark.slow
        def test_slow():
            pass
    """)
    suite.syspathinsert()
    said = ["--slow"] if settings else ["--slow", "postgres", "--backend", "postgres"]
    result = suite.runpytest_subprocess("-p", "their_plugin", *PLUGIN, "-p", "no:cacheprovider", *said)
    result.assert_outcomes(passed=2, skipped=1)


# ---------------------------------------------------------------- slow tests

SLOW = "import pytest{0}\n@pytest.mark.slow\ndef test_slow(): pass\ndef test_fast(): pass\n"


def test_slow_tests_wait_for_the_option(suite):
    suite.makepyfile(SLOW.format(", tinygen"))
    result = run(suite, "-rs", "--strict-markers")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*slow: run with --slow"])
    run(suite, "--slow").assert_outcomes(passed=2)


def test_slow_tests_of_a_suite_without_tinygen_run(suite):
    suite.makepyfile(SLOW.format(""))
    suite.runpytest_subprocess(*PLUGIN, "--strict-markers").assert_outcomes(passed=2)
