"""Procedural images: pictures made by rules and chance, with nothing to train."""

from tinygen.host import AlgorithmSpec, DatasetSpec, hookimpl


@hookimpl
def tinygen_algorithms() -> list[AlgorithmSpec]:
    return [
        AlgorithmSpec(
            name="bezier",
            family="procedural",
            summary="random meshes under veils of Bézier curves, anti-aliased",
            factory="tinygen_plugins.procedural.bezier:Bezier",
            config="tinygen_plugins.procedural.bezier:Config",
            verbs=("sample",),
            papers=(
                "Bernstein, Démonstration du théorème de Weierstrass fondée sur le calcul des probabilités, 1912",
                "Delaunay, Sur la sphère vide, 1934",
                "Farin, Curves and Surfaces for CAGD, 5th edition, 2002",
            ),
        ),
        AlgorithmSpec(
            name="pixels",
            family="procedural",
            summary="independent random pixels, grey or colour: the images that no model can compress",
            factory="tinygen_plugins.procedural.pixels:Pixels",
            config="tinygen_plugins.procedural.pixels:Config",
            verbs=("sample",),
            papers=("Shannon, A Mathematical Theory of Communication, 1948",),
        ),
    ]


@hookimpl
def tinygen_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="shapes",
            summary="discs, squares, triangles, stars, rings and crosses, colour or grey, any size, labelled",
            factory="tinygen_plugins.procedural.shapes:shapes",
        )
    ]
