"""Photographs in the manner of paintings."""

from tinygen.host import AlgorithmSpec, Checks, hookimpl


@hookimpl
def tinygen_algorithms():
    return [
        AlgorithmSpec(
            name="gatys",
            family="style",
            summary="neural style transfer of 2016: pixels change until a network sees the painting's style in them",
            factory="tinygen_plugins.style.gatys:Gatys",
            config="tinygen_plugins.style.gatys:Config",
            verbs=("stylize",),
            papers=(
                "Gatys, Ecker and Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016",
                "Gatys, Bethge, Hertzmann and Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016, "
                "arXiv:1606.05897",
            ),
            checks=Checks(small={"steps": 2, "weights": "random"}),
        ),
        AlgorithmSpec(
            name="fast_style",
            family="style",
            summary="network that learns to paint any photograph in one pass, in one painting's style or several",
            factory="tinygen_plugins.style.fast_style:FastStyle",
            config="tinygen_plugins.style.fast_style:Config",
            verbs=("train", "stylize", "evaluate"),
            papers=(
                "Johnson, Alahi and Fei-Fei, Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV "
                "2016, arXiv:1603.08155",
                "Ulyanov, Vedaldi and Lempitsky, Instance Normalization: The Missing Ingredient for Fast Stylization, "
                "2016, arXiv:1607.08022",
                "Dumoulin, Shlens and Kudlur, A Learned Representation for Artistic Style, ICLR 2017, arXiv:1610.07629",
                "Huang and Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV "
                "2017, arXiv:1703.06868",
                "Rainy and de Berker, Stabilizing Neural Style-Transfer for Video, Element AI Lab, 2018",
                "Wang et al., Consistent Video Style Transfer via Compound Regularization, AAAI 2020",
            ),
            data="shapes",
            checks=Checks(small={"width": 2, "blocks": 1, "painting_size": 32, "weights": "random"}),
        ),
    ]
