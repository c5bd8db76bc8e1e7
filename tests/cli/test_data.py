"""`tinygen data`: what is at hand, what is missing and where it goes, and downloads from a server of our own."""

import hashlib
import json

import pytest

from tests.data.test_fetch import CONTENT, SUM, server  # noqa: F401 - a fixture
from tests.host.plugin_files import write
from tinygen.cli import main
from tinygen.cli.data import WEIGHTS
from tinygen.errors import PluginError
from tinygen.host import DatasetSpec, Registry, Source
from tinygen.host.builtin import FOUR_IDX_FILES

SETS = """
from tinygen.host import DatasetSpec, Source, hookimpl

def load(request):
    raise NotImplementedError

@hookimpl
def tinygen_datasets():
    return [DatasetSpec(
        name="toys", summary="Toys.", factory="toys:load", folder="toys", files=("a.gz", "b.gz"),
        sources=(Source(file="a.gz", urls=("{server}/whole",), sha256="{sum}"), {more}),
    )]
"""
SECOND = 'Source(file="b.gz", urls=("{server}/{page}",), sha256="{sum}")'


@pytest.fixture
def ask(capsys, monkeypatch, tmp_path):
    """Run the verb on a machine without data; gives its exit code and the document, or the text."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("TINYGEN_DATA", "TINYGEN_PLUGINS_DIR", "TINYGEN_DISABLE"):
        monkeypatch.delenv(name, raising=False)

    def call(*argv):
        code = main(["data", *argv])
        out, err = capsys.readouterr()
        return code, json.loads(out) if "--json" in argv else out + err

    return call


@pytest.fixture
def toys(tmp_path, server):  # noqa: F811 - the fixture imported above
    def made(page="whole"):
        more = SECOND.format(server=server, page=page, sum=SUM) if page else ""
        return write(tmp_path / "toys.py", SETS.format(server=server, sum=SUM, more=more))

    return made


def row(rows, name):
    return next(each for each in rows if each["name"] == name)


# ---------------------------------------------------------------- list


def test_the_list_tells_what_is_missing_and_where_it_goes(ask, tmp_path):
    code, rows = ask("--json")
    assert code == 0
    keys = ["name", "summary", "argument", "ready", "found", "missing", "download", "hint"]
    assert all(list(each) == keys for each in rows)
    mnist = row(rows, "mnist")
    assert (mnist["ready"], mnist["found"]) == (False, [])
    assert mnist["missing"] == mnist["download"] == list(FOUR_IDX_FILES)
    assert str(tmp_path / "cache" / "tinygen" / "mnist") in mnist["hint"]
    assert row(rows, "glyphs")["ready"] and row(rows, "squeezenet1_1")["missing"]
    assert ask("list", "--json") == (0, rows)


def test_files_are_told_with_their_folders(ask, tmp_path, monkeypatch):
    write(tmp_path / "data" / "mnist" / FOUR_IDX_FILES[0], "")
    write(tmp_path / "mine" / "mnist" / FOUR_IDX_FILES[1].removesuffix(".gz"), "")
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "data"))
    mnist = row(ask("--json", "--data-dir", str(tmp_path / "mine"))[1], "mnist")
    assert mnist["found"] == [str(tmp_path / "data" / "mnist"), str(tmp_path / "mine" / "mnist")]
    assert mnist["missing"] == list(FOUR_IDX_FILES[2:])


def test_the_list_as_text_for_programs_and_for_people(ask, tmp_path, monkeypatch):
    write(tmp_path / "data" / "binarized_mnist" / "binarized_mnist.npz", "")
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "data"))
    lines = {line.split("\t")[0]: line.split("\t") for line in ask()[1].splitlines()}
    assert lines["mnist"][1:3] == ["missing", "tinygen data fetch mnist"]
    assert lines["binarized-mnist"][1:3] == ["at hand", str(tmp_path / "data" / "binarized_mnist")]
    assert lines["glyphs"][1] == "generated" and lines["folder"][1:3] == ["yours", "--data folder:PATH"]
    assert lines["squeezenet1_1"][1] == "missing" and "put squeezenet1_1_imagenet.npz into" in lines["squeezenet1_1"][2]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    text = ask()[1]
    assert "glyphs           generated  grey 28×28" in text and "tinygen data fetch mnist\n" in text


# ---------------------------------------------------------------- fetch


def test_what_is_missing_is_fetched_into_the_cache(ask, toys, tmp_path):
    place = tmp_path / "cache" / "tinygen" / "toys"
    write(tmp_path / "cache" / "tinygen" / "toys" / "b.gz", "mine")
    code, document = ask("fetch", "toys", "--json", "-p", toys())
    assert code == 0
    assert document == {"name": "toys", "fetched": [str(place / "a.gz")], "found": [str(place)]}
    assert (place / "a.gz").read_bytes() == CONTENT and (place / "b.gz").read_text() == "mine"
    code, text = ask("fetch", "toys", "-p", toys())
    assert (code, text) == (0, f"data toys are at hand in {place}\n")
    assert ask("fetch", "toys", "--again", "-p", toys())[0] == 0
    assert (place / "b.gz").read_bytes() == CONTENT


def test_a_folder_may_be_told(ask, toys, tmp_path):
    code, text = ask("fetch", "toys", "--data-dir", str(tmp_path / "here"), "-p", toys())
    assert code == 0
    assert [str(tmp_path / "here" / "toys" / file) in text for file in ("a.gz", "b.gz")] == [True, True]
    assert "a.gz  0.3 of 0.3 MB" in text
    assert hashlib.sha256((tmp_path / "here" / "toys" / "b.gz").read_bytes()).hexdigest() == SUM


def test_a_download_that_fails_is_one_line_and_keeps_what_came_before(ask, toys, tmp_path):
    place = tmp_path / "cache" / "tinygen" / "toys"
    code, document = ask("fetch", "toys", "--json", "-p", toys("other"))
    assert code == 1
    assert document["error"]["code"] == "data" and "is another file" in document["error"]["message"]
    assert document["error"]["hint"] == f"put b.gz into {place}/ by hand"
    assert [path.name for path in place.iterdir()] == ["a.gz"]


def test_what_no_address_is_known_of(ask, toys, tmp_path):
    code, text = ask("fetch", "toys", "-p", toys(page=None))
    place = tmp_path / "cache" / "tinygen"
    assert code == 1
    assert text == (
        "tinygen: error: data toys: no download is known for b.gz\n" + f"  hint: put it into {place / 'toys'}/\n"
    )
    assert not place.exists()
    code, text = ask("fetch", "squeezenet1_1")
    assert code == 1 and f"put it into {place / 'squeezenet1_1'}/" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fetch"], "data fetch needs a NAME"),
        (["fetch", "mnits"], 'there are no data called "mnits"\n  hint: did you mean "mnist"?'),
        (["fetch", "glyphs"], "data glyphs has no files to fetch"),
        (["fatch"], 'data: there is nothing to do called "fatch"\n  hint: did you mean "fetch"?'),
        (["list", "mnist"], "data list takes no NAME"),
    ],
)
def test_what_cannot_be_meant(ask, argv, message):
    code, text = ask(*argv)
    assert code == 2 and message in text


def test_a_name_is_asked_for_among_those_that_can_be_fetched(ask):
    _, text = ask("fetch")
    assert text.endswith("\n  hint: one of mnist, fashion-mnist, omniglot, omniglot-runs, moving-mnist\n")


# ---------------------------------------------------------------- what the core and plugins say


def test_every_source_of_the_core_is_whole():
    specs = [*Registry.discover().datasets.values(), *WEIGHTS]
    sources = [(spec, source) for spec in specs for source in spec.sources]
    assert {spec.name for spec, _ in sources} >= {"mnist", "fashion-mnist", "omniglot", "moving-mnist"}
    for spec, source in sources:
        assert source.file in spec.files
        assert all(url.endswith(source.file) for url in source.urls)
    for spec in specs:
        files = [source.file for source in spec.sources]
        assert len(files) == len(set(files)) and files in ([], list(spec.files))


def test_sources_are_checked():
    fine = {"file": "a", "urls": ("https://x/a",), "sha256": "0" * 64}
    for change, message in (
        ({"urls": "https://x/a"}, "urls must be a tuple of addresses"),
        ({"urls": ("file:///a",)}, "urls must be a tuple of addresses"),
        ({"sha256": "abc"}, "sha256 must be 64 hexadecimal digits"),
    ):
        with pytest.raises(PluginError, match=message):
            Source(**{**fine, **change})
    with pytest.raises(PluginError, match="sources must tell of its files"):
        DatasetSpec(name="toys", summary="Toys.", factory="toys:load", files=("b",), sources=(Source(**fine),))
