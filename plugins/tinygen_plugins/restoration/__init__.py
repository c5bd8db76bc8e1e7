"""Restoration: pictures with holes, scratches and noise made whole."""

from tinygen.host import AlgorithmSpec, Checks, hookimpl


@hookimpl
def tinygen_algorithms() -> list[AlgorithmSpec]:
    return [
        AlgorithmSpec(
            name="least_squares",
            family="restoration",
            summary="fills missing pixels, takes noise away: total variation, harmonic, Tikhonov, polynomial patches",
            factory="tinygen_plugins.restoration.least_squares:LeastSquares",
            config="tinygen_plugins.restoration.least_squares:Config",
            verbs=("repair",),
            papers=(
                "Tikhonov, Solution of incorrectly formulated problems and the regularization method, 1963",
                "Rudin, Osher and Fatemi, Nonlinear total variation based noise removal algorithms, 1992",
                "Chambolle, An algorithm for total variation minimization and applications, 2004",
                "Chambolle and Pock, A first-order primal-dual algorithm for convex problems, 2011",
            ),
        ),
        AlgorithmSpec(
            name="denoiser",
            family="restoration",
            summary="residual convolutional network that takes noise of unknown strength from pictures of any size",
            factory="tinygen_plugins.restoration.denoiser:Denoiser",
            config="tinygen_plugins.restoration.denoiser:Config",
            verbs=("train", "repair", "evaluate"),
            papers=(
                "Zhang et al., Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising, IEEE "
                "Transactions on Image Processing 2017, arXiv:1608.03981",
                "Lehtinen et al., Noise2Noise: Learning Image Restoration without Clean Data, ICML 2018, "
                "arXiv:1803.04189",
            ),
            checks=Checks(small={"depth": 3, "width": 4, "batch_size": 6}),
        ),
        AlgorithmSpec(
            name="gan_inpaint",
            family="restoration",
            summary="context encoder: holes of any form filled by a generator trained on squared error and a critic",
            factory="tinygen_plugins.restoration.gan_inpaint:GANInpaint",
            config="tinygen_plugins.restoration.gan_inpaint:Config",
            verbs=("train", "repair", "evaluate"),
            papers=("Pathak et al., Context Encoders: Feature Learning by Inpainting, CVPR 2016, arXiv:1604.07379",),
            checks=Checks(small={"width": 2, "batch_size": 6}),
        ),
    ]
