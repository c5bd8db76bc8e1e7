"""Composition: one picture out of several, and pictures put right, by classical image processing."""

from tinygen.host import AlgorithmSpec, hookimpl


@hookimpl
def tinygen_algorithms() -> list[AlgorithmSpec]:
    return [
        AlgorithmSpec(
            name="blend",
            family="composition",
            summary="fuses two images: alpha, feathering, Laplacian pyramid, seamless (Poisson) cloning",
            factory="tinygen_plugins.composition.blend:Blend",
            config="tinygen_plugins.composition.blend:Config",
            verbs=("compose",),
            papers=(
                "Porter and Duff, Compositing Digital Images, 1984",
                "Burt and Adelson, A Multiresolution Spline with Application to Image Mosaics, 1983",
                "Pérez, Gangnet and Blake, Poisson Image Editing, 2003",
                "Hestenes and Stiefel, Methods of Conjugate Gradients for Solving Linear Systems, 1952",
            ),
        ),
        AlgorithmSpec(
            name="correct",
            family="composition",
            summary="error correction: exposure by gains, geometry by a homography, impulse defects by medians",
            factory="tinygen_plugins.composition.correct:Correct",
            config="tinygen_plugins.composition.correct:Config",
            verbs=("repair", "compose"),
            papers=(
                "Brown and Lowe, Automatic Panoramic Image Stitching using Invariant Features, 2007",
                "Hartley, In Defense of the Eight-Point Algorithm, 1997",
                "Hwang and Haddad, Adaptive Median Filters: New Algorithms and Results, 1995",
            ),
        ),
        AlgorithmSpec(
            name="stitch",
            family="composition",
            summary="joins overlapping photographs: corners, matches, RANSAC, warp, gains and the cheapest seam",
            factory="tinygen_plugins.composition.stitch:Stitch",
            config="tinygen_plugins.composition.stitch:Config",
            verbs=("compose",),
            papers=(
                "Brown and Lowe, Automatic Panoramic Image Stitching using Invariant Features, 2007",
                "Fischler and Bolles, Random Sample Consensus, 1981",
                "Harris and Stephens, A Combined Corner and Edge Detector, 1988",
                "Brown, Szeliski and Winder, Multi-Image Matching using Multi-Scale Oriented Patches, 2005",
                "Lowe, Distinctive Image Features from Scale-Invariant Keypoints, 2004",
                "Efros and Freeman, Image Quilting for Texture Synthesis and Transfer, 2001",
            ),
        ),
    ]
