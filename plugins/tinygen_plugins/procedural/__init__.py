"""Procedural images: pictures made by rules and chance, with nothing to train."""

from tinygen.host import AlgorithmSpec, Checks, DatasetSpec, hookimpl


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
            checks=Checks(small={"size": 24}),
        ),
        AlgorithmSpec(
            name="noise",
            family="procedural",
            summary="Gaussian, Poisson, salt-and-pepper or speckle noise, on an image or as the grain of a landscape",
            factory="tinygen_plugins.procedural.noise:Noise",
            config="tinygen_plugins.procedural.noise:Config",
            verbs=("sample", "compose"),
            papers=(
                "Gonzalez and Woods, Digital Image Processing, 4th edition, 2018",
                "Foi, Trimeche, Katkovnik, Egiazarian, Practical Poissonian-Gaussian noise modeling and fitting, 2008",
                "Voss, Fractals in nature, in The Science of Fractal Images, 1988",
            ),
            checks=Checks(small={"size": 24}),
        ),
        AlgorithmSpec(
            name="particles",
            family="procedural",
            summary="particles that a velocity field carries over a canvas, leaving ink: paintings, and films of them",
            factory="tinygen_plugins.procedural.particles:Particles",
            config="tinygen_plugins.procedural.particles:Config",
            verbs=("sample", "animate"),
            papers=(
                "Maruyama, Continuous Markov processes and stochastic equations, 1955",
                "Bridson, Hourihan, Nordenstam, Curl-noise for procedural fluid flow, 2007",
                "Kloeden, Platen, Numerical Solution of Stochastic Differential Equations, 1992",
            ),
            checks=Checks(small={"size": 24, "particles": 50, "layers": 1}),
        ),
        AlgorithmSpec(
            name="pixels",
            family="procedural",
            summary="independent random pixels, grey or colour: the images that no model can compress",
            factory="tinygen_plugins.procedural.pixels:Pixels",
            config="tinygen_plugins.procedural.pixels:Config",
            verbs=("sample",),
            papers=("Shannon, A Mathematical Theory of Communication, 1948",),
            checks=Checks(small={"size": 24}),
        ),
        AlgorithmSpec(
            name="polynomial",
            family="procedural",
            summary="images as one polynomial of their coordinates: by QR, likelihood or descent; generates by its law",
            factory="tinygen_plugins.procedural.polynomial:Polynomial",
            config="tinygen_plugins.procedural.polynomial:Config",
            verbs=("train", "sample", "repair"),
            papers=(
                "Legendre, Nouvelles méthodes pour la détermination des orbites des comètes, 1805",
                "Hoerl and Kennard, Ridge regression: biased estimation for nonorthogonal problems, 1970",
            ),
            untrained=True,
            checks=Checks(small={"size": 24, "batch_size": 6}),
        ),
        AlgorithmSpec(
            name="template",
            family="procedural",
            summary="templates times contents, I = T·C: a collage through masks, a print of stamps, a basis of images",
            factory="tinygen_plugins.procedural.template:Template",
            config="tinygen_plugins.procedural.template:Config",
            verbs=("sample", "compose"),
            papers=("Porter and Duff, Compositing Digital Images, 1984",),
            checks=Checks(small={"size": 24}),
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
