"""Restoration: pictures with holes, scratches and noise made whole."""

from tinygen.host import AlgorithmSpec, hookimpl


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
    ]
