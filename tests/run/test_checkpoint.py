"""The checkpoint file: what is written comes back, what is damaged or foreign is refused, what was there survives."""

import dataclasses
import json
import os
import pickle
import resource
import string
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygen import __version__
from tinygen.errors import CheckpointError, OutputError, PluginError
from tinygen.run import Checkpoint, Origin, checkpoint

ORIGIN = Origin(
    name="toy", provider="toys", config={"lr": 0.1, "widths": [3, 4], "steps": 5}, seed=3, data="folder:PATH",
    image_size=None, grey=False, digest="00ff",
    images={"name": "x", "channels": 1, "height": 2, "width": 3, "count": 4, "classes": ["é"]},
)  # fmt: skip


def make(arrays, **changed):
    usual = {"origin": ORIGIN, "step": 7, "drawn": 8, "seconds": 0.1, "backend": "numpy", "table": {"a[0]": 1e-310}}
    return Checkpoint(arrays=arrays, **usual | changed)


def refused(folder, *words):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(folder)
    assert "\n" not in caught.value.message and str(folder) in caught.value.message
    assert all(word in f"{caught.value.message} {caught.value.hint}" for word in words)


# ---------------------------------------------------------------- what is written comes back

DTYPES = st.sampled_from(["float32", "float64", "float16", "int64", "int32", "uint8", "uint64", "bool"])
ARRAYS = st.dictionaries(
    st.text(string.ascii_letters + "._[]'0é", min_size=1, max_size=8),
    hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
    max_size=5,
)


@given(ARRAYS, st.integers(0, 2**60), st.floats(0, 1e9))
def test_what_is_written_comes_back(tmp_path_factory, arrays, step, seconds):
    folder = tmp_path_factory.mktemp("run")
    written = make(arrays, step=step, seconds=seconds)
    checkpoint.write(folder, written)
    back = checkpoint.read(folder)
    assert dataclasses.replace(back, arrays={}) == dataclasses.replace(written, arrays={})
    others = safetensors.numpy.load((folder / checkpoint.FILE).read_bytes())  # as any other program reads it
    for found in (back.arrays, others):
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and found[name].shape == array.shape
            assert found[name].tobytes() == array.tobytes()


def test_the_header_tells_format_and_versions(tmp_path):
    checkpoint.write(tmp_path, make({}))
    with safetensors.safe_open(tmp_path / checkpoint.FILE, "numpy") as file:
        document = json.loads(file.metadata()["tinygen"])
    assert document["format"] == "1" and document["step"] == 7 and document["drawn"] == 8
    assert document["versions"]["tinygen"] == __version__ and document["versions"]["numpy"] == np.__version__
    assert document["origin"]["config"] == ORIGIN.config


# ---------------------------------------------------------------- what is damaged or foreign


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a good checkpoint."""
    folder = tmp_path_factory.mktemp("whole")
    checkpoint.write(folder, make({"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3)}))
    return (folder / checkpoint.FILE).read_bytes()


@pytest.fixture
def file(tmp_path):
    return tmp_path / checkpoint.FILE


@given(st.data())
def test_a_file_that_is_cut_short_is_refused(whole, file, data):
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(file.parent)


@given(st.data())
def test_any_damaged_byte_is_noticed(whole, file, data):
    place = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    file.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
    refused(file.parent)


@pytest.mark.parametrize(("said", "instead"), [(b'"F32"', b'"I32"'), (b"[2,3]", b"[3,2]"), (b"a.weight", b"a.wright")])
def test_a_damaged_type_shape_or_name_is_noticed(whole, file, said, instead):
    assert said in whole
    file.write_bytes(whole.replace(said, instead))
    refused(file.parent, "checksum")


@given(st.binary(max_size=64))
def test_garbage_is_refused(file, content):
    file.write_bytes(content)
    refused(file.parent, "damaged")


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_nothing_is_ever_unpickled(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    file.write_bytes(pickle.dumps(Trap()))
    refused(file.parent, "damaged")
    assert not Path("sprung").exists()


def test_a_missing_file_is_told(tmp_path):
    refused(tmp_path, "checkpoint.safetensors is missing", "train")
    refused(tmp_path / "nowhere")


def test_another_programs_file_is_told(file):
    safetensors.numpy.save_file({"a": np.ones(2)}, file)
    refused(file.parent, "not a checkpoint of tinygen")


def test_another_format_is_told_with_the_version_that_reads_it(file):
    text = json.dumps({"format": "2", "versions": {"tinygen": "9.9"}})
    file.write_bytes(safetensors.numpy.save({}, {"tinygen": text, "tinygen.crc32": checkpoint._checksum(text, {})}))
    refused(file.parent, "format 2", "reads format 1", "9.9")


def write_text(file, text):
    file.write_bytes(safetensors.numpy.save({}, {"tinygen": text, "tinygen.crc32": checkpoint._checksum(text, {})}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "the header is a list"), ("{}", "the header lacks format, versions"), ("{", "Expecting"),
        ('{"format": "1"}', "the header lacks versions"), ("[" * 100_000, "recursion"), ('"x"', "the header is a str"),
    ],
)  # fmt: skip
def test_a_header_that_lacks_something_is_told(file, text, said):
    write_text(file, text)
    refused(file.parent, "header is damaged", said)


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The JSON of a good checkpoint."""
    folder = tmp_path_factory.mktemp("document")
    checkpoint.write(folder, make({}))
    with safetensors.safe_open(folder / checkpoint.FILE, "numpy") as file:
        return file.metadata()["tinygen"]


HEADER = {
    "versions": "object",
    "step": "whole",
    "drawn": "whole",
    "seconds": "number",
    "backend": "text",
    "table": "object",
}
ORIGIN_HOLDS = {
    "name": "text", "provider": "text", "config": "object", "seed": "whole", "data": "text", "grey": "truth",
    "image_size": "whole or none", "digest": "text",
}  # fmt: skip
IMAGES = {"name": "text", "channels": "whole", "height": "whole", "width": "whole", "count": "whole", "classes": "list"}
VALUES = {
    "object": {"a": 1}, "list": ["a"], "text": "x", "whole": 3, "whole or none": None, "number": 1.5, "truth": False,
}  # fmt: skip
FITTING = {"number": {"whole"}, "whole or none": {"whole"}}  # besides a value of its own kind
FIELDS = [
    *((("the header",), name, kind) for name, kind in HEADER.items()),
    *((("origin",), name, kind) for name, kind in ORIGIN_HOLDS.items()),
    *((("origin", "images"), name, kind) for name, kind in IMAGES.items()),
]


@given(st.sampled_from(FIELDS), st.sampled_from(["missing", "unknown", *VALUES]))
def test_a_header_with_a_malformed_field_is_told_by_name(document, file, field, change):
    (owner, name, kind), changed = field, json.loads(document)
    holder = changed
    for step in owner if owner != ("the header",) else ():
        holder = holder[step]
    if change == "missing":
        del holder[name]
    elif change == "unknown":
        holder["stranger"] = 1
    else:
        holder[name] = VALUES[change]
    write_text(file, json.dumps(changed))
    if change in {kind} | FITTING.get(kind, set()):
        checkpoint.read(file.parent)
        return
    said = {"missing": f"lacks {name}", "unknown": "has the unknown stranger"}
    refused(file.parent, "header is damaged: ", ".".join(owner), said.get(change, f"{name} of {'.'.join(owner)} is "))


@pytest.mark.parametrize("versions", [None, [], {}, {"tinygen": None}])
def test_another_format_without_its_version_is_told(file, versions):
    write_text(file, json.dumps({"format": 2, "versions": versions}))
    refused(file.parent, "format 2", "reads format 1", "restore the file")


@pytest.mark.parametrize(("kind", "size"), [("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1), ("C64", 8)])
def test_arrays_of_types_that_no_checkpoint_holds_are_told(whole, file, kind, size):
    n = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + n])
    header["b"] = {"dtype": kind, "shape": [8 // size], "data_offsets": header["b"]["data_offsets"]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + n :])
    refused(file.parent, f"b is of type {kind}", "restore the file")
    del header["__metadata__"]
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + n :])
    refused(file.parent, "not a checkpoint of tinygen")


# ---------------------------------------------------------------- what was there survives


def test_a_full_disk_leaves_the_checkpoint_of_before(tmp_path):
    checkpoint.write(tmp_path, make({}, step=1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # as far as a program can tell, the disk is full
    try:
        with pytest.raises(OutputError) as caught:
            checkpoint.write(tmp_path, make({"a": np.zeros(10_000)}, step=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path / checkpoint.FILE) in caught.value.message and "free some space" in caught.value.hint
    assert checkpoint.read(tmp_path).step == 1
    assert os.listdir(tmp_path) == [checkpoint.FILE]


def test_left_overs_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "samples").mkdir()
    partial = f".{'0af1' * 8}.partial"
    kept = {".mine.partial", "x.partial", checkpoint.FILE, "metrics.jsonl"}
    for name in (partial, f"samples/{partial}", *kept):
        (tmp_path / name).write_bytes(b"x")
    checkpoint.remove_left_overs(tmp_path)
    assert set(os.listdir(tmp_path)) == kept | {"samples"} and not os.listdir(tmp_path / "samples")


# ---------------------------------------------------------------- what a run is made of


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1
    widths: tuple[int, ...] = (1, 2)
    stages: tuple[tuple[int, str], ...] = ((1, "a"),)
    mode: Literal["a", "b"] = "a"
    limit: int | None = None
    path: object = None


@given(
    st.builds(
        Config, lr=st.floats(allow_nan=False), widths=st.lists(st.integers()).map(tuple), mode=st.sampled_from("ab"),
        stages=st.lists(st.tuples(st.integers(), st.text())).map(tuple), limit=st.none() | st.integers(),
    )
)  # fmt: skip
def test_a_config_comes_back_through_json(config):
    values = json.loads(json.dumps(checkpoint.config_values(config)))
    assert checkpoint.config_from(Config, values, Path("run")) == config


def test_a_config_that_json_cannot_hold_is_the_plugins_fault():
    with pytest.raises(PluginError, match=r"Config\.path.*PosixPath|Config\.path.*WindowsPath"):
        checkpoint.config_values(Config(path=Path()))


def test_options_that_the_plugin_has_no_more_are_named():
    with pytest.raises(CheckpointError, match="run: made with the options depth, width"):
        checkpoint.config_from(Config, {"lr": 1.0, "width": 3, "depth": 2}, Path("run"))


@dataclasses.dataclass(frozen=True)
class Picky:
    lr: float = 0.1

    def __post_init__(self):
        if not self.lr > 0:
            raise ValueError("lr must be positive")


@pytest.mark.parametrize("lr", [-1, "fast", None])
def test_options_that_the_plugin_does_not_take_are_told(lr):
    with pytest.raises(CheckpointError, match="run: made with options that the plugin does not take: "):
        checkpoint.config_from(Picky, {"lr": lr}, Path("run"))


def test_a_run_of_something_else_is_refused_with_both_values():
    other = dataclasses.replace(ORIGIN, config={"lr": 0.2, "widths": [3, 4], "steps": 9}, seed=4)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.require_same(Path("run"), ORIGIN.options, other.options)
    assert caught.value.message == "run: made with --lr 0.1, not 0.2; made with --seed 3, not 4"
    longer = dataclasses.replace(ORIGIN, config=ORIGIN.config | {"steps": 99})
    checkpoint.require_same(Path("run"), ORIGIN.options, longer.options)
