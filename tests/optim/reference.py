"""The published update rules, element by element in Python's floats; nothing here is taken from tinygen.

Each function takes the values of one parameter, a list of its gradients and a learning rate for each of them, and
returns the values after the last step. `t` counts the steps from 1, as the papers do.
"""

import math


def sgd(start, gradients, rates, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    """Sutskever et al. 2013 in PyTorch's arrangement (documentation of torch.optim.SGD): u₁ = g₁ undamped."""
    p, u = list(start), [0.0] * len(start)
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        for i in range(len(p)):
            g = gradient[i] + weight_decay * p[i]
            if momentum != 0:
                u[i] = g if t == 1 else momentum * u[i] + (1 - dampening) * g
                g = g + momentum * u[i] if nesterov else u[i]
            p[i] = p[i] - lr * g
    return p


def adam(start, gradients, rates, beta1, beta2, eps, weight_decay=0.0):
    """Kingma and Ba 2015, algorithm 1; weight_decay is an L2 term of the objective, ½ λ p²."""
    p, m, v = list(start), [0.0] * len(start), [0.0] * len(start)
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        for i in range(len(p)):
            p[i] = p[i] - lr * _direction(gradient[i] + weight_decay * p[i], m, v, i, t, beta1, beta2, eps)
    return p


def adamw(start, gradients, rates, beta1, beta2, eps, weight_decay):
    """Loshchilov and Hutter 2019, algorithm 2, with λ counted per unit of the learning rate, as PyTorch does."""
    p, m, v = list(start), [0.0] * len(start), [0.0] * len(start)
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        for i in range(len(p)):
            decay = lr * weight_decay * p[i]
            p[i] = p[i] - decay - lr * _direction(gradient[i], m, v, i, t, beta1, beta2, eps)
    return p


def _direction(g, m, v, i, t, beta1, beta2, eps):
    """m̂ / (√v̂ + ε), after m and v have taken in g."""
    m[i] = beta1 * m[i] + (1 - beta1) * g
    v[i] = beta2 * v[i] + (1 - beta2) * g**2
    return m[i] / (1 - beta1**t) / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
