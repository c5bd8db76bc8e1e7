"""Recurrent networks that learn how films go on."""

from tinygen.host import AlgorithmSpec, Checks, hookimpl


@hookimpl
def tinygen_algorithms() -> list[AlgorithmSpec]:
    return [
        AlgorithmSpec(
            name="rnn",
            family="sequence",
            summary="simple recurrent network that predicts the next frame, and makes films from its own predictions",
            factory="tinygen_plugins.sequence.rnn:RNN",
            config="tinygen_plugins.sequence.rnn:Config",
            verbs=("train", "animate", "evaluate"),
            data="moving-glyphs",
            papers=(
                "Elman, Finding Structure in Time, Cognitive Science 1990",
                "Werbos, Backpropagation Through Time: What It Does and How to Do It, Proceedings of the IEEE 1990",
            ),
            checks=Checks(small={"hidden": 8, "channels": 4, "batch_size": 2}),
        ),
        AlgorithmSpec(
            name="lstm",
            family="sequence",
            summary="LSTM encoder that reads a film, and decoders that give it back and predict its future",
            factory="tinygen_plugins.sequence.lstm:LSTM",
            config="tinygen_plugins.sequence.lstm:Config",
            verbs=("train", "animate", "evaluate"),
            data="moving-glyphs",
            papers=(
                "Srivastava, Mansimov and Salakhutdinov, Unsupervised Learning of Video Representations using LSTMs, "
                "ICML 2015, arXiv:1502.04681",
                "Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 1997",
            ),
            checks=Checks(small={"hidden": 8, "channels": 4, "batch_size": 2}),
        ),
    ]
