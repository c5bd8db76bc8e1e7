"""Learning to learn: algorithms that train on many small tasks and adapt to a new one from a few examples."""

from tinygen.host import AlgorithmSpec, Checks, hookimpl


@hookimpl
def tinygen_algorithms():
    return [
        AlgorithmSpec(
            name="one_shot",
            family="meta",
            summary="new classes from an example or a few: prototypical, matching and siamese networks",
            factory="tinygen_plugins.meta.one_shot:OneShot",
            config="tinygen_plugins.meta.one_shot:Config",
            verbs=("train", "evaluate", "adapt"),
            data="glyphs:all",
            papers=(
                "Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, NIPS 2017, arXiv:1703.05175",
                "Vinyals et al., Matching Networks for One Shot Learning, NIPS 2016, arXiv:1606.04080",
                "Koch, Zemel and Salakhutdinov, Siamese Neural Networks for One-shot Image Recognition, ICML Deep "
                "Learning Workshop 2015",
                "Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006",
            ),
            checks=Checks(small={"channels": 3, "way": 4, "queries": 2}),
        ),
        AlgorithmSpec(
            name="ntm",
            family="meta",
            summary="Neural Turing Machine: learns to copy and to recall rows of images, by a memory beside a network",
            factory="tinygen_plugins.meta.ntm:NTM",
            config="tinygen_plugins.meta.ntm:Config",
            verbs=("train", "evaluate"),
            papers=("Graves, Wayne and Danihelka, Neural Turing Machines, 2014, arXiv:1410.5401",),
            checks=Checks(small={"hidden": 5, "locations": 6, "width": 3, "bits": 2, "longest": 3, "batch_size": 3}),
        ),
        AlgorithmSpec(
            name="maml",
            family="meta",
            summary="a start from which new characters or sinusoids are learnt in a step: MAML and first-order MAML",
            factory="tinygen_plugins.meta.maml:MAML",
            config="tinygen_plugins.meta.maml:Config",
            verbs=("train", "evaluate", "adapt"),
            data="glyphs:all",
            papers=(
                "Finn, Abbeel and Levine, Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, ICML "
                "2017, arXiv:1703.03400",
                "Li et al., Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, 2017, arXiv:1707.09835",
                "Antoniou, Edwards and Storkey, How to train your MAML, ICLR 2019, arXiv:1810.09502",
            ),
            checks=Checks(small={"filters": 2, "way": 2, "batch_size": 2, "episodes": 2}),
        ),
        AlgorithmSpec(
            name="q_learning",
            family="meta",
            summary="Q-learning with a table: a pen that learns by reward to draw; a maze, a cliff, a frozen lake",
            factory="tinygen_plugins.meta.q_learning:QLearning",
            config="tinygen_plugins.meta.q_learning:Config",
            verbs=("train", "sample", "evaluate"),
            papers=(
                "Watkins and Dayan, Q-learning, Machine Learning 8, 1992",
                "van Hasselt, Double Q-learning, NIPS 2010",
                "Lin, Self-Improving Reactive Agents Based on Reinforcement Learning, Planning and Teaching, Machine "
                "Learning 8, 1992",
                "Even-Dar and Mansour, Learning Rates for Q-learning, Journal of Machine Learning Research 5, 2003",
            ),
            checks=Checks(small={"side": 6, "agents": 8, "moves": 10, "batch_size": 6}),
        ),
        AlgorithmSpec(
            name="reptile",
            family="meta",
            summary="a start from which new characters or sinusoids are learnt quickly, by first derivatives alone",
            factory="tinygen_plugins.meta.reptile:Reptile",
            config="tinygen_plugins.meta.reptile:Config",
            verbs=("train", "evaluate", "adapt"),
            data="glyphs:all",
            papers=("Nichol, Achiam and Schulman, On First-Order Meta-Learning Algorithms, 2018, arXiv:1803.02999",),
            checks=Checks(
                small={"filters": 2, "way": 2, "train_shot": 3, "inner_batch": 3, "batch_size": 2, "episodes": 2}
            ),
        ),
        AlgorithmSpec(
            name="few_shot_gan",
            family="meta",
            summary="few-shot image generation: a GAN that learns a new class from four images, trained by Reptile",
            factory="tinygen_plugins.meta.few_shot_gan:FewShotGAN",
            config="tinygen_plugins.meta.few_shot_gan:Config",
            verbs=("train", "sample", "evaluate", "adapt"),
            data="glyphs:all",
            papers=(
                "Clouâtre and Demers, FIGR: Few-shot Image Generation with Reptile, 2019, arXiv:1901.02199",
                "Gulrajani et al., Improved Training of Wasserstein GANs, NIPS 2017, arXiv:1704.00028",
            ),
            checks=Checks(
                small={"width": 2, "latent": 3, "shot": 2, "inner_steps": 2, "adapt_steps": 2, "episodes": 2}
            ),
        ),
    ]
