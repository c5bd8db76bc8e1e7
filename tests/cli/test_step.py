"""`tinygen step` and `train --explain`: one step told, and nothing left behind."""

import os

from tests.run.command import tinygen

SMALL = ["--hidden", 6, "--latent", 2]


def test_a_step_is_walked_forward_and_back():
    done = tinygen("step", "gan", *SMALL)
    assert done.code == 0
    forward, _, back = done.out.partition("\nbackward\n")
    assert forward.startswith("forward\n") and "y = x wᵀ + b." in forward and "gan.py:" in forward
    assert "gy = " in back and "gx0 = " in back


def test_its_operations_as_a_document():
    document = tinygen("step", "gan", *SMALL, "--json").document
    linear = next(row for row in document["operations"] if row["operation"] == "linear")
    assert linear["inputs"][1] == "(6, 2)" and linear["place"].startswith("gan.py:")
    assert document["name"] == "gan" and any(row["gradient_norm"] for row in document["operations"])


def test_what_cannot_be_trained_has_no_step():
    done = tinygen("step", "bezier")
    assert done.code == 2 and "bezier has no verb train" in done.err


def test_train_explains_a_step_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tinygen("train", "gan", *SMALL, "--explain", "--batch-size", 4)
    assert done.code == 0 and os.listdir() == []
    lines = done.out.splitlines()
    assert lines[0].split()[0] == "operation" and "operations" in lines[-2] and " ms: forward" in lines[-1]
    document = tinygen("train", "gan", *SMALL, "--explain", "--json").document
    assert document["step"] == 1 and document["operations"]
    assert os.listdir() == []
