"""Generators that take one value after the other, each by what came before it."""

from tinygen.host import AlgorithmSpec, Checks, hookimpl


@hookimpl
def tinygen_algorithms() -> list[AlgorithmSpec]:
    return [
        AlgorithmSpec(
            name="ar",
            family="autoregressive",
            summary="AR(p) over time and causal AR over the picture: textures, and films of them, by linear prediction",
            factory="tinygen_plugins.autoregressive.ar:AR",
            config="tinygen_plugins.autoregressive.ar:Config",
            verbs=("train", "sample", "animate"),
            papers=(
                "Yule, On a Method of Investigating Periodicities in Disturbed Series, 1927",
                "Durbin, The Fitting of Time-Series Models, 1960",
                "Whittle, On Stationary Processes in the Plane, 1954",
                "Ekstrom, Woods, Two-Dimensional Spectral Factorization in Recursive Digital Filtering, 1976",
                "Brockwell, Davis, Time Series: Theory and Methods, 2nd edition, 1991",
            ),
            checks=Checks(small={"margin": 2, "batch_size": 6}),
        ),
        AlgorithmSpec(
            name="pixelcnn",
            family="autoregressive",
            summary="masked convolutions give each pixel's law from those before it: exact likelihood, and repair",
            factory="tinygen_plugins.autoregressive.pixelcnn:PixelCNN",
            config="tinygen_plugins.autoregressive.pixelcnn:Config",
            verbs=("train", "sample", "repair", "evaluate"),
            papers=(
                "van den Oord, Kalchbrenner, Kavukcuoglu, Pixel Recurrent Neural Networks, ICML 2016, arXiv:1601.06759",
                "van den Oord et al., Conditional Image Generation with PixelCNN Decoders, NIPS 2016, arXiv:1606.05328",
            ),
            checks=Checks(small={"features": 6, "blocks": 1, "batch_size": 4}),
        ),
    ]
