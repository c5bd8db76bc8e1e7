"""Networks of convolutions that look at images: to tell what they show, and to write them down in a few numbers."""

from tinygen.host import AlgorithmSpec, Checks, hookimpl


@hookimpl
def tinygen_algorithms() -> list[AlgorithmSpec]:
    return [
        AlgorithmSpec(
            name="cnn",
            family="convolutional",
            summary="tells the class of an image: convolutions, pooling and softmax; its features measure generators",
            factory="tinygen_plugins.convolutional.cnn:CNN",
            config="tinygen_plugins.convolutional.cnn:Config",
            verbs=("train", "evaluate"),
            papers=(
                "LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998",
                "Ioffe and Szegedy, Batch Normalization, ICML 2015, arXiv:1502.03167",
                "Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 2014",
            ),
            checks=Checks(small={"width": 3, "features": 8, "batch_size": 6}),
        ),
        AlgorithmSpec(
            name="autoencoder",
            family="convolutional",
            summary="writes images down in a few numbers and draws them again; samples from a normal law of the codes",
            factory="tinygen_plugins.convolutional.autoencoder:Autoencoder",
            config="tinygen_plugins.convolutional.autoencoder:Config",
            verbs=("train", "sample", "repair", "evaluate"),
            papers=(
                "Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, Nature 1986",
                "Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, Science 2006",
                "Ghosh et al., From Variational to Deterministic Autoencoders, ICLR 2020, arXiv:1903.12436",
            ),
            checks=Checks(small={"width": 3, "code": 3, "batch_size": 6}),
        ),
    ]
