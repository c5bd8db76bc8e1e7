"""The picture of a tape: boxes that hold each operation once, in layers, that neither touch nor lie on a circle."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from tinygen.study import graph
from tinygen.study.layout import POINT, _apart, lay_out

WIDTH, GAP = 100.0, 20.0
# of each box, the boxes before it that arrows come from
flows = st.integers(1, 14).flatmap(
    lambda n: st.tuples(*(st.sets(st.integers(0, max(at - 1, 0)), max_size=3 if at else 0) for at in range(n)))
)


@given(flows)
def test_boxes_stand_in_layers_and_do_not_touch(sources):
    layout = lay_out([sorted(froms) for froms in sources], WIDTH, GAP)
    users = {box: [to for to, froms in enumerate(sources) if box in froms] for box in range(len(sources))}
    for box, froms in enumerate(sources):
        assert all(layout.layer[source] < layout.layer[box] for source in froms)
        if users[box]:  # right above the highest of those that need it
            assert layout.layer[box] == min(layout.layer[to] for to in users[box]) - 1
        else:
            assert layout.layer[box] == layout.layers - 1
    for layer in range(layout.layers):
        row = sorted(x for x, at in zip(layout.x, layout.layer) if at == layer)
        assert all(right - left >= WIDTH + GAP - 1e-6 for left, right in pairwise(row))
    assert min(layout.x) >= WIDTH / 2 - 1e-6
    assert max(layout.x) <= layout.width - WIDTH / 2 + 1e-6


@given(flows)
def test_arrows_lead_from_box_to_box_past_the_others(sources):
    layout = lay_out([sorted(froms) for froms in sources], WIDTH, GAP)
    assert len(layout.paths) == sum(map(len, sources))
    ends = sorted((path[0], path[-1]) for path in layout.paths)
    place = list(zip(layout.x, layout.layer))
    assert ends == sorted((place[source], place[box]) for box, froms in enumerate(sources) for source in froms)
    for path in layout.paths:
        assert [layer for _, layer in path] == list(range(path[0][1], path[-1][1] + 1))
        for x, layer in path[1:-1]:
            clear = [abs(x - other) for other, at in place if at == layer]
            assert all(distance >= (WIDTH + POINT) / 2 + GAP - 1e-6 for distance in clear)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=7), st.integers(0, 2**32 - 1))
def test_places_are_the_nearest_that_keep_the_gaps(wished, seed):
    """No other places in this order are nearer in least squares."""
    widths = [10.0] * len(wished)
    found = np.array(_apart(wished, widths, 2.0))
    assert (np.diff(found) >= 12 - 1e-9).all()
    cost = np.square(found - wished).sum()
    random = np.random.default_rng(seed)
    for _ in range(40):
        other = np.sort(found + random.normal(0, 3, len(wished)))
        other = (
            other[0]
            + np.maximum.accumulate(other - other[0] - 12 * np.arange(len(wished)))
            + 12 * np.arange(len(wished))
        )
        assert np.square(other - wished).sum() >= cost - 1e-6


@given(
    st.integers(1, 10).flatmap(
        lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20).map(lambda e: (n, e))
    )
)
def test_circles_are_the_strong_components(drawn):
    n, arrows = drawn
    boxes = [graph.Box() for _ in range(n)]
    links = {box: set() for box in boxes}
    matrix = np.zeros((n, n))
    for source, to in arrows:
        if source != to:
            links[boxes[to]].add(boxes[source])
            matrix[source, to] = 1
    circles = graph._circles(boxes, links)
    _, labels = connected_components(matrix, connection="strong")
    expected = {frozenset(np.flatnonzero(labels == label)) for label in set(labels)}
    assert {frozenset(boxes.index(box) for box in circle) for circle in circles} == expected
    place = {box: at for at, circle in enumerate(circles) for box in circle}
    assert all(place[source] <= place[box] for box, froms in links.items() for source in froms)  # sources first


@pytest.mark.parametrize("which", ["toy", "gan"])
def test_each_operation_is_in_one_box(which, request):
    seen = request.getfixturevalue(which).seen
    for walk in seen.backward_passes:
        operations = graph._reachable(walk.roots)
        place = {operation: at for at, operation in enumerate(operations)}
        assert all(place[source] < place[operation] for operation in operations for source in operation.sources)
        boxes = graph.boxes_of(walk, seen)
        for box in boxes:
            order = [place[operation] for operation in box.operations]
            assert order == sorted(order)
        held = [operation for box in boxes for operation in box.operations]
        assert sorted(map(place.get, held)) == list(range(len(operations)))
        home = {operation: box for box in boxes for operation in box.operations}
        for box in boxes:
            froms = {home[s] for operation in box.operations for s in operation.sources} - {box}
            assert set(box.sources) == froms
            assert all(boxes.index(source) < boxes.index(box) for source in froms)


def test_layers_are_boxes(gan):
    first = gan.seen.backward_passes[0]
    named = [(box.title, box.place, box.shape) for box in graph.boxes_of(first, gan.seen)]
    assert named[:3] == [
        ("Linear", "discriminator.net.1", "(4, 512)"),
        ("LeakyReLU", "discriminator.net.2", "(4, 512)"),
        ("Dropout", "discriminator.net.3", "(4, 512)"),
    ]
    assert named[-1] == ("negative", "discriminator_loss", "a number")
    second = graph.boxes_of(gan.seen.backward_passes[1], gan.seen)
    learns = [box.place for box in second if box.parameters]
    assert learns == [f"generator.net.{layer}" for layer in (0, 1, 3, 4, 6)]  # the discriminator is held fixed


def test_a_gradient_of_a_gradient_is_one_box(toy):
    boxes = graph.boxes_of(toy.seen.backward_passes[1], toy.seen)
    assert len([box for box in boxes if box.title.startswith("∇")]) == 1


def test_a_loop_of_lines_is_one_box(toy, monkeypatch):
    """Too many for one look: by lines, a loop would lie on a circle."""
    monkeypatch.setattr(graph, "AT_ONE_LOOK", 9)
    boxes = graph.boxes_of(toy.seen.backward_passes[0], toy.seen)
    assert [len(box.operations) for box in boxes] == [3, 6, 1]
    assert boxes[0].place == "a = self.net(x)"


def test_the_picture(toy):
    walk = toy.seen.backward_passes[1]
    picture = ElementTree.fromstring(graph.svg(walk, toy.seen, {walk.path: "#toy.L"}, graph.STYLE))
    space = "{http://www.w3.org/2000/svg}"
    boxes = graph.boxes_of(walk, toy.seen)
    assert len(list(picture.iter(f"{space}rect"))) == len(boxes)
    assert len(list(picture.iter(f"{space}path"))) == sum(len(box.sources) for box in boxes)
    titles = [title.text for title in picture.iter(f"{space}title")]
    assert titles[0] == f"Toy.fit, line {walk.line}"
    assert any("gx = gy · (1 − y²)" in title for title in titles)
    assert any("learns: net.1.weight, net.1.bias" in title for title in titles)
    lines = {link.get("href") for link in picture.iter(f"{space}a")}
    assert f"#toy.L{boxes[-1].operations[-1].line}" in lines
    assert "<a " not in graph.svg(walk, toy.seen, {"another.py": "#another.L"})
    counts = {name: count for _, name, count in graph.operations_in([walk])}
    assert counts["tanh"] == 3
