"""Generators that learn to encode images into latent variables, and to decode these again."""

from tinygen.host import AlgorithmSpec, Checks, hookimpl


@hookimpl
def tinygen_algorithms() -> list[AlgorithmSpec]:
    return [
        AlgorithmSpec(
            name="vae",
            family="variational",
            summary="variational autoencoder: multilayer perceptron or convolutional, beta, importance-weighted bound",
            factory="tinygen_plugins.variational.vae:VAE",
            config="tinygen_plugins.variational.vae:Config",
            verbs=("train", "sample", "repair", "animate", "evaluate"),
            checks=Checks(small={"hidden": 12, "latent": 3, "batch_size": 6, "draws": 4}),
            papers=(
                "Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014, arXiv:1312.6114",
                "Rezende et al., Stochastic Backpropagation and Approximate Inference, ICML 2014, arXiv:1401.4082",
                "Burda et al., Importance Weighted Autoencoders, ICLR 2016, arXiv:1509.00519",
                "Higgins et al., beta-VAE: Learning Basic Visual Concepts, ICLR 2017",
            ),
        )
    ]
