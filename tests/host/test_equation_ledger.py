"""The ledger of verified equations: what pytest counts, prints, writes and refuses, in suites of its own."""

import json
from dataclasses import replace

import pytest

# pytester forgets the modules that a test imports first; these must stay the ones that the other tests see.
import tinygen.cli.show
import tinygen.testing.strict  # noqa: F401
from tests.host.plugin_files import TOY, algorithm, plugin
from tests.host.suites import EQUATIONS, PLUGIN, VERIFYING_BOTH, ledger, run
from tinygen.cli import main
from tinygen.testing.ledger import Verification, build, differences, stale, write

# ---------------------------------------------------------------- what is counted


def test_the_ledger_tells_tests_examples_errors_and_backends(suite):
    suite.makepyfile(test_toy=VERIFYING_BOTH)
    result = run(suite, "--equations", backend="numpy,strict")
    assert result.ret == 0
    result.stdout.re_match_lines(
        [
            r"equation +source +tests +examples +largest error +backends",
            r"toy_equations:double +Nobody 1900, eq. 2 +2 +12 +- +numpy",
            r"toy_equations:square +Nobody 1900, eq. 1 +1 +3\d +1.0e-07 +numpy,strict",
            r"written: .*toy_equations.ledger.json",
        ]
    )
    square, double = ledger(suite)["toy_equations:square"], ledger(suite)["toy_equations:double"]
    assert (square["name"], square["latex"], square["source"]) == ("square", "y = x^2", "Nobody 1900, eq. 1")
    ((test, summary),) = square["tests"].items()
    assert test == "test_toy.py::test_square"
    assert (summary["largest_error"], summary["backends"]) == (1e-7, ["numpy", "strict"])
    assert 30 <= summary["examples"] <= 40  # on each backend at most 20, and there are 19 integers to choose from
    assert double["tests"] == {
        "test_toy.py::TestDouble::test_double": {"examples": 10, "largest_error": None, "backends": ["numpy"]},
        "test_toy.py::TestDouble::test_double_of_some": {"examples": 2, "largest_error": None, "backends": ["numpy"]},
    }


ONLY_ONE_KEEPER = """
def pytest_runtest_setup(item):
    is_worker = hasattr(item.config, "workerinput")
    assert item.config.pluginmanager.has_plugin("tinygen-ledger") != is_worker
"""


def test_the_ledger_is_the_same_from_the_workers_of_xdist(suite):
    suite.makeconftest(ONLY_ONE_KEEPER)
    suite.makepyfile(test_toy=VERIFYING_BOTH)
    texts = []
    for workers in ((), ("-n", "2")):
        assert run(suite, "--equations", *workers, backend="numpy,strict").ret == 0
        texts.append((suite.path / "toy_equations.ledger.json").read_bytes())
    assert texts[0] == texts[1]
    assert not list(suite.path.glob("*.partial"))


def test_a_test_is_left_as_it_was(suite):
    look = "\n\ndef test_it_is_unwrapped():\n    assert not hasattr(test_square.hypothesis.inner_test, '__wrapped__')\n"
    suite.makepyfile(test_toy=VERIFYING_BOTH + look)
    assert run(suite, "--equations").ret == 0


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_an_equation_without_a_property_test_fails_the_run(suite, workers):
    """A test of single cases does not verify; nor does one that is missing."""
    suite.makepyfile(test_toy=VERIFYING_BOTH.replace("@verifies(toy.double)\n    def", "def"))
    result = run(suite, "--equations", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT VERIFIED  toy_equations:double: no property test verifies it"])
    assert ledger(suite) is None


def test_a_failing_test_verifies_nothing_and_keeps_the_ledger(suite):
    suite.makepyfile(test_toy=VERIFYING_BOTH.replace("== 2 * x", "== 3 * x"))
    result = run(suite, "--equations")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT VERIFIED  test_toy.py::TestDouble::test_double on numpy did not pass"])
    assert ledger(suite) is None


def test_a_failure_elsewhere_does_not_keep_the_ledger_back(suite):
    suite.makepyfile(test_toy=VERIFYING_BOTH, test_other="def test_it(): assert False")
    assert run(suite, "--equations").ret == pytest.ExitCode.TESTS_FAILED
    assert set(ledger(suite)) == {"toy_equations:square", "toy_equations:double"}


def test_slow_tests_stay_out_of_the_ledger(suite):
    suite.makepyfile(
        test_toy=VERIFYING_BOTH.replace("@verifies(toy.square)", "@pytest.mark.slow\n@verifies(toy.square)")
    )
    result = run(suite, "--equations", "--slow")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT VERIFIED  toy_equations:square: no property test verifies it"])


def test_equations_of_a_test_file_are_no_plugins(suite):
    suite.makepyfile(
        test_toy="""
        from tinygen.host import equation, verifies

        @equation("x", source="here")
        def identity(x): return x

        @verifies(identity)
        def test_it(): pass
    """
    )
    result = run(suite, "--equations")
    assert result.ret == 0
    assert not list(suite.path.glob("*.json"))


def test_without_the_option_nothing_is_counted_or_written(suite):
    suite.makeconftest("def pytest_runtest_logreport(report): assert not report.user_properties")
    suite.makepyfile(test_toy=VERIFYING_BOTH)
    result = run(suite)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*toy_equations:double*")
    assert ledger(suite) is None


def package(suite):
    """Let the suite verify the equations of a package."""
    folder = suite.mkpydir("toy_package")
    (folder / "model.py").write_text(EQUATIONS)
    suite.makepyfile(test_toy=VERIFYING_BOTH.replace("import toy_equations as", "import toy_package.model as"))
    return folder


def test_a_package_has_one_ledger_for_all_its_modules(suite):
    folder = package(suite)
    (folder / "__main__.py").write_text("raise SystemExit('this is no module to import')\n")
    (folder / "borrower.py").write_text("from toy_equations import square\n")
    assert run(suite, "--equations").ret == 0
    assert set(ledger(suite, "toy_package/ledger.json")) == {"toy_package.model:square", "toy_package.model:double"}
    (folder / "forgotten.py").write_text(EQUATIONS)
    result = run(suite, "--equations")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT VERIFIED  toy_package.forgotten:double: no property test verifies it"])
    assert len(ledger(suite, "toy_package/ledger.json")) == 2


def test_a_module_that_cannot_be_imported_is_a_finding(suite):
    (package(suite) / "torn.py").write_text("raise OSError('torn')\n")
    result = run(suite, "--equations")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT VERIFIED  toy_package cannot be read: OSError: torn"])


def test_a_plugin_in_the_suites_root_is_judged_though_no_test_verifies_it(suite):
    """An installed plugin whose suite verifies nothing must not pass for verified."""
    suite.mkpydir("tinygen_plugins").joinpath("new.py").write_text(EQUATIONS)
    suite.makepyfile("def test_nothing(): pass")
    result = suite.runpytest_subprocess(*PLUGIN, "--equations")  # here, tinygen_plugins may be the real one already
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT VERIFIED  tinygen_plugins.new:double: no property test verifies it"])


def test_a_plugin_installed_below_the_suites_root_is_not_its_own(suite, monkeypatch):
    """The environment often lies in the project's folder, with plugins that are tested elsewhere."""
    installed = suite.mkdir(".venv").joinpath("site-packages")
    (installed / "tinygen_plugins").mkdir(parents=True)
    (installed / "tinygen_plugins" / "__init__.py").write_text(EQUATIONS)
    monkeypatch.setenv("PYTHONPATH", str(installed), prepend=":")
    suite.makepyfile("def test_nothing(): pass")
    assert suite.runpytest_subprocess(*PLUGIN, "--equations").ret == 0


def test_a_run_that_was_cut_short_keeps_the_ledger(suite):
    suite.makepyfile(test_toy=VERIFYING_BOTH, test_zzz="import pytest\ndef test_it(): pytest.exit('enough')")
    result = run(suite, "--equations")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert ledger(suite) is None


# ---------------------------------------------------------------- is the ledger up to date?


SQUARE = Verification("a.py::test_square", ("toy_equations:square",), by_property=True)
DOUBLE = Verification("a.py::test_double", ("toy_equations:double",), by_property=True)


@pytest.fixture
def shipped(suite):
    """Equations with a ledger that says that SQUARE and DOUBLE verify them."""
    write("toy_equations", build("toy_equations", [SQUARE, DOUBLE]))
    assert differences("toy_equations", [SQUARE, DOUBLE]) == []
    return suite.path


def test_examples_and_errors_may_differ(shipped):
    run = replace(SQUARE, examples=7, largest_error=0.1, backend="numpy")
    assert differences("toy_equations", [run, DOUBLE]) == []


def test_a_ledger_that_cannot_be_written_leaves_the_old_one(shipped, monkeypatch):
    before = (shipped / "toy_equations.ledger.json").read_bytes()
    monkeypatch.setattr("os.replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write("toy_equations", {"equations": {}})
    assert (shipped / "toy_equations.ledger.json").read_bytes() == before
    assert not list(shipped.glob("*.partial"))


def test_tests_are_in_the_order_of_their_ids(shipped):
    names = [f"a.py::test_{letter}" for letter in "edcba"]
    tests = build("toy_equations", [replace(SQUARE, test=name) for name in names])["equations"]["toy_equations:square"]
    assert list(tests["tests"]) == sorted(names)


def test_a_test_more_or_less_is_a_difference(shipped):
    more = replace(SQUARE, test="b.py::test_more")
    assert differences("toy_equations", [SQUARE, DOUBLE, more]) == [
        "toy_equations:square: tests: ['a.py::test_square'] → ['a.py::test_square', 'b.py::test_more']"
    ]
    assert differences("toy_equations", [SQUARE]) == [
        "toy_equations:double: no property test verifies it",
        "toy_equations:double: tests: ['a.py::test_double'] → []",
    ]
    assert differences("toy_equations", [SQUARE, replace(DOUBLE, by_property=False)]) == [
        "toy_equations:double: no property test verifies it"
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("y = 2x", "y = x + x", ["double: latex: 'y = x + x' → 'y = 2x'"]),
        ("eq. 1", "eq. 3", ["square: source: 'Nobody 1900, eq. 3' → 'Nobody 1900, eq. 1'"]),
        (":square", ":cube", ["square: it is not in the ledger", "cube: it is in the ledger alone"]),
    ],
)
def test_an_equation_that_the_ledger_tells_otherwise_is_a_difference(shipped, before, after, expected):
    file = shipped / "toy_equations.ledger.json"
    file.write_text(file.read_text().replace(before, after))
    assert differences("toy_equations", [SQUARE, DOUBLE]) == [f"toy_equations:{line}" for line in expected]


def test_a_missing_ledger_is_a_difference(suite):
    (line,) = differences("toy_equations", [SQUARE, DOUBLE])
    assert line.endswith("toy_equations.ledger.json is missing: write it with pytest --equations")


def test_stale_collects_the_suite_anew(suite):
    file = suite.makepyfile(test_toy=VERIFYING_BOTH)
    assert run(suite, "--equations").ret == 0
    assert stale("toy_equations", ["test_toy.py"], suite.path) == []
    file.write_text(
        VERIFYING_BOTH.replace("@verifies(toy.square)\n", "").replace("def test_double_of_some", "def test_few")
    )
    both = [f"test_toy.py::TestDouble::{name}" for name in ("test_double", "test_double_of_some", "test_few")]
    assert stale("toy_equations", ["test_toy.py"], suite.path) == [
        "toy_equations:square: no property test verifies it",
        f"toy_equations:double: tests: {both[:2]} → {both[::2]}",
        "toy_equations:square: tests: ['test_toy.py::test_square'] → []",
    ]


def test_a_suite_that_cannot_be_collected_is_an_error(suite):
    suite.makepyfile(test_toy="import toy_absent")
    with pytest.raises(RuntimeError, match="No module named 'toy_absent'"):
        stale("toy_equations", ["test_toy.py"], suite.path)


def test_show_reads_the_ledger_of_a_plugin_file(suite, capsys):
    """The host imports a plugin's file under another name than its tests do, and finds its tests all the same."""
    suite.makepyfile(toy_plugin=plugin(algorithm("toy", "toy_plugin")) + TOY + EQUATIONS)
    suite.makepyfile(test_toy=VERIFYING_BOTH.replace("toy_equations", "toy_plugin"))
    assert run(suite, "--equations").ret == 0
    capsys.readouterr()
    assert main(["show", "toy", "--json", "-p", str(suite.path / "toy_plugin.py")]) == 0
    (square, _) = json.loads(capsys.readouterr().out)["equations"]
    assert square["verified_by"] == ["test_toy.py::test_square"]
