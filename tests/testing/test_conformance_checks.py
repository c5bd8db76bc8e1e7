"""The conformance kit: every planted fault is found by the check that is named, with a message that says where."""

import json
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks, run
from tinygen.errors import PluginError, UsageError
from tinygen.host import Checks
from tinygen.testing.conformance import CHECKS, GROUPS, chosen, conformance_tests, find_subjects, run_checks
from tinygen.testing.conformance.suite import ask

FAULTS = Path(__file__).with_name("faults")
NO_LEDGER = "mathematics.verified"  # the plugins here have none
# The file, what finds it, and what its message must hold: "here" stands for file:line of the comment `# here`.
PLANTED = [
    ("wrong_sign", "training.loss-falls", ["went from", "on one batch"]),
    ("wrong_factor", "mathematics.derivatives", ["here", "model.encoder", "expected", "received"]),
    ("first_order_only", "mathematics.second-order", ["here", "curvature"]),
    ("severed", "training.parameters-learn", ["model.encoder.weight, and 1 more"]),
    ("half_severed", "mathematics.derivatives", ["here", "gradient"]),
    ("global_random", "determinism.global-state", ["here"]),
    ("global_film", "determinism.global-state", ["here"]),
    ("own_generator", "determinism.streams", ["here"]),
    ("own_seed", "determinism.streams", ["here"]),
    ("left_in_eval", "determinism.previews", ["after step 2", "training"]),
    ("host_array", "backends.strict", ["here", "multiply", "numpy"]),
    ("float64_leak", "backends.float32", ["here", "multiply takes float64"]),
    ("written_batch", "training.inputs-untouched", ["written_batch.py:12"]),
    ("local_state", "determinism.resume", ["step 2", "model.encoder.weight"]),
    ("forgotten_buffer", "determinism.resume", ["step 2", "model.encoder.weight"]),
    ("blank", "contract.sample", ["0.500", "blank"]),
    ("out_of_range", "contract.sample", ["outside [0, 1]"]),
    ("fetching", "backends.waits", ["here", "1 times"]),
    ("unchecked", "contract.bad-options", ["width", "features must be at least 1"]),
    ("unchecked", "documents.options", ["no help for lr"]),
    ("overstated", "contract.verbs", ["the class does not repair"]),
]


def results(name, *words):
    """By id, what the checks of a plugin in the folder of faults come to."""
    (subject,) = find_subjects(str(FAULTS / f"{name}.py"))
    return {each.check.id: each for each in run_checks(subject, chosen(words))}


def here(name):
    """`file:line` of the comment."""
    path = FAULTS / f"{name}.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    return f"{path}:{next(number for number, line in enumerate(lines, 1) if '# here' in line)}"


def test_nothing_is_found_where_nothing_is_wrong():
    found = results("sound")
    assert [name for name, each in found.items() if each.status == "failed"] == [NO_LEDGER]
    asked = {name for name, each in CHECKS.items() if not {"repair", "compose"} & set(each.verbs)}
    assert asked - found.keys() <= {name for name, each in CHECKS.items() if each.verbs}


@pytest.mark.parametrize(("name", "identity", "words"), PLANTED, ids=[f"{row[0]}-{row[1]}" for row in PLANTED])
def test_a_planted_fault_is_found_where_it_is(name, identity, words):
    found = results(name, identity)[identity]
    assert found.status == "failed"
    for word in words:
        assert (here(name) if word == "here" else word) in found.message


def test_what_needs_a_failed_check_is_skipped():
    found = results("wrong_factor", "mathematics.second-order")
    assert found["mathematics.second-order"].status == "skipped"
    assert found["mathematics.second-order"].message == "it needs mathematics.derivatives"


def test_a_training_that_ends_is_no_matter_of_the_data():
    found = results("ending", "contract")
    assert found["contract.fit"].status == "failed" and "nothing more at step 2" in found["contract.fit"].message
    assert found["contract.other-data"].status == "skipped"


def test_an_expected_failure_has_its_reason_and_must_be_one():
    found = results("excused", "mathematics", "determinism")
    assert (found["mathematics.derivatives"].status, found["mathematics.derivatives"].message) == (
        "expected", "the penalty is a figure",
    )  # fmt: skip
    assert found["determinism.seed"].status == "failed"
    assert "take it out of Checks.expected" in found["determinism.seed"].message


def test_small_options_that_do_not_exist_are_named(tmp_path):
    source = (FAULTS / "sound.py").read_text(encoding="utf-8")
    path = tmp_path / "sound.py"
    path.write_text(source.replace('spec("sound"', 'spec("sound", small={"widht": 3}'), encoding="utf-8")
    (subject,) = find_subjects(str(path))
    *_, result = run_checks(subject, chosen(["contract.builds"]))
    assert "sound has no option widht" in result.message


def test_what_fetches_is_found_in_any_folder(tmp_path):
    """The host's own data folder is left out, not every folder of such a name."""
    path = tmp_path / "tinygen" / "data_of_mine" / "fetching.py"
    path.parent.mkdir(parents=True)
    path.write_text((FAULTS / "fetching.py").read_text(encoding="utf-8"), encoding="utf-8")
    (subject,) = find_subjects(str(path))
    *_, result = run_checks(subject, chosen(["backends.waits"]))
    assert result.status == "failed" and "fetching.py" in result.message


def test_a_formula_of_the_same_name_elsewhere_does_not_excuse_an_old_ledger(tmp_path):
    source = (FAULTS / "sound.py").read_text(encoding="utf-8").replace("Sound, spec, squared_error", "Sound, spec")
    own = '\n\n@equation("new", source="here")\ndef rule(x):\n    """x"""\n    return x\n'
    path = tmp_path / "sound.py"
    path.write_text(source.replace("import hookimpl", "import equation, hookimpl") + own, encoding="utf-8")
    tests = {"test_a.py::test_a": {"examples": 1, "largest_error": 0.0, "backends": ["numpy"]}}
    entries = {
        f"sound{module}:rule": {"name": "rule", "latex": latex, "source": "here", "tests": tests}
        for module, latex in (("", "old"), (".other", "new"))
    }
    path.with_suffix(".ledger.json").write_text(json.dumps({"equations": entries}), encoding="utf-8")
    (subject,) = find_subjects(str(path))
    *_, result = run_checks(subject, chosen(["mathematics.verified"]))
    assert "rule is another formula" in result.message


def test_an_expectation_of_no_check_is_found(tmp_path):
    source = (FAULTS / "excused.py").read_text(encoding="utf-8").replace("determinism.seed", "determinism.luck")
    path = tmp_path / "excused.py"
    path.write_text(source, encoding="utf-8")
    (subject,) = find_subjects(str(path))
    (result,) = run_checks(subject, chosen(["contract.loads"]))
    assert "names determinism.luck, and there is no such check" in result.message


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_an_expectation_without_a_reason_is_refused(reason):
    with pytest.raises(PluginError, match=r"expected contract\.fit needs a reason"):
        Checks(expected={"contract.fit": reason})


# ---------------------------------------------------------------- which checks


def test_ids_are_those_of_their_groups_and_needs_stand_before():
    before = set()
    for name, each in CHECKS.items():
        assert each.id == name and each.group in GROUPS and set(each.needs) <= before
        assert each.title and each.mend and "\n" not in each.title + each.mend
        before.add(name)
    assert [each.id for each in chosen(["training.parameters-learn"])] == [
        "contract.loads", "contract.config", "contract.builds", "contract.fit", "training.parameters-learn",
    ]  # fmt: skip
    with pytest.raises(UsageError, match='there is no check "traning"'):
        chosen(["traning"])


def test_the_page_tells_every_check_in_its_order():
    page = (ROOT / "docs/checks.md").read_text(encoding="utf-8")
    rows = [f"| `{each.id}` | {each.title} | {each.mend} |" for each in CHECKS.values()]
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def test_the_blocks_of_the_page_run():
    for block in blocks("docs/checks.md", "python"):
        run(block, "docs/checks.md")


# ---------------------------------------------------------------- in a suite


def test_the_checks_are_tests_of_a_suite():
    test = conformance_tests(str(FAULTS / "wrong_factor.py"), without=(NO_LEDGER, "mathematics.tests"))
    (mark,) = test.pytestmark
    items = {item.id: item.values for item in mark.args[1]}
    assert "wrong-factor-mathematics.derivatives" in items and "wrong-factor-contract.repair" not in items
    test(*items["wrong-factor-contract.fit"])
    with pytest.raises(AssertionError, match=r"mathematics.derivatives: loss 1 of the update"):
        test(*items["wrong-factor-mathematics.derivatives"])
    with pytest.raises(pytest.skip.Exception, match=r"it needs mathematics.derivatives"):
        test(*items["wrong-factor-mathematics.second-order"])


def test_an_expected_failure_is_one_of_the_suite_too():
    test = conformance_tests(str(FAULTS / "excused.py"))
    (mark,) = test.pytestmark
    items = {item.id: item.values for item in mark.args[1]}
    with pytest.raises(pytest.xfail.Exception, match="the penalty is a figure"):
        test(*items["excused-mathematics.derivatives"])


def test_a_check_is_asked_once_of_a_subject():
    (subject,) = find_subjects(str(FAULTS / "sound.py"))
    assert ask(subject, CHECKS["contract.fit"]) is ask(subject, CHECKS["contract.fit"])


# ---------------------------------------------------------------- what a word stands for


def test_a_folder_that_is_no_plugin_does_not_hide_an_algorithm(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gan").mkdir()
    assert [each.spec.name for each in find_subjects("gan")] == ["gan"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[project\n", "cannot be read: Expected"),
        ("[project]\nentry-points = 3\n", "cannot be read"),
        ('[project.entry-points]\ntinygen = "x"\n', "cannot be read"),
        ("[project.entry-points.tinygen]\nx = 3\n", "cannot be read"),
        ("[project]\n", "names no plugin here"),
        ('[project.entry-points.tinygen]\nx = "absent"\n', "names no plugin here"),
    ],
)
def test_a_project_that_makes_no_sense_is_refused_by_its_file(tmp_path, text, said):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=said) as refused:
        find_subjects(str(tmp_path))
    assert "pyproject.toml" in refused.value.message


def test_a_word_is_an_algorithm_a_plugin_or_a_path(tmp_path):
    assert [each.spec.name for each in find_subjects("gan")] == ["gan"]
    assert "gan" in [each.spec.name for each in find_subjects("adversarial")]
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.py").write_text("def torn(:\n")
    with pytest.raises(UsageError, match="no such file"):
        find_subjects(str(tmp_path / "absent.py"))
    with pytest.raises(UsageError, match="neither a plugin nor a project"):
        find_subjects(str(tmp_path / "empty"))
    with pytest.raises(PluginError, match="SyntaxError"):
        find_subjects(str(tmp_path / "torn.py"))
    with pytest.raises(UsageError, match='there is no algorithm "gam"'):
        find_subjects("gam")
