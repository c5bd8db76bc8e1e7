"""Generators that learn in a game against a critic."""

from tinygen.host import AlgorithmSpec, Checks, hookimpl


@hookimpl
def tinygen_algorithms():
    return [
        AlgorithmSpec(
            name="gan",
            family="adversarial",
            summary="generative adversarial network of 2014: minimax and non-saturating game on multilayer perceptrons",
            factory="tinygen_plugins.adversarial.gan:GAN",
            config="tinygen_plugins.adversarial.gan:Config",
            verbs=("train", "sample", "evaluate"),
            papers=("Goodfellow et al., Generative Adversarial Nets, NIPS 2014, arXiv:1406.2661",),
            checks=Checks(small={"hidden": 12, "latent": 3, "batch_size": 6}),
        ),
        AlgorithmSpec(
            name="dcgan",
            family="adversarial",
            summary="deep convolutional GAN: square images, grey or in colour, of side 28, 32, 64 and on",
            factory="tinygen_plugins.adversarial.dcgan:DCGAN",
            config="tinygen_plugins.adversarial.dcgan:Config",
            verbs=("train", "sample", "evaluate"),
            papers=(
                "Radford, Metz and Chintala, Unsupervised Representation Learning with Deep Convolutional Generative "
                "Adversarial Networks, ICLR 2016, arXiv:1511.06434",
            ),
            checks=Checks(small={"width": 2, "latent": 3, "batch_size": 6}),
        ),
    ]
