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


def rmsprop(start, gradients, rates, alpha, eps, weight_decay=0.0, momentum=0.0, centered=False):
    """Tieleman and Hinton 2012, lecture 6.5; centered as in Graves 2013, eq. 38 to 40; the momentum as PyTorch's."""
    p, square, mean, u = ([*start], *([0.0] * len(start) for _ in range(3)))
    for gradient, lr in zip(gradients, rates, strict=True):
        for i in range(len(p)):
            g = gradient[i] + weight_decay * p[i]
            square[i] = alpha * square[i] + (1 - alpha) * g**2
            mean[i] = alpha * mean[i] + (1 - alpha) * g
            variance = square[i] - mean[i] ** 2 if centered else square[i]
            u[i] = momentum * u[i] + g / (math.sqrt(max(variance, 0.0)) + eps)
            p[i] = p[i] - lr * u[i]
    return p


def adagrad(start, gradients, rates, eps, lr_decay=0.0, weight_decay=0.0, initial=0.0):
    """Duchi, Hazan and Singer 2011, the diagonal form, with a rate that falls as lr/(1 + (t − 1) lr_decay)."""
    p, total = list(start), [initial] * len(start)
    for t, (gradient, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        for i in range(len(p)):
            g = gradient[i] + weight_decay * p[i]
            total[i] = total[i] + g * g
            p[i] = p[i] - lr / (1 + (t - 1) * lr_decay) * g / (math.sqrt(total[i]) + eps)
    return p


def _direction(g, m, v, i, t, beta1, beta2, eps):
    """m̂ / (√v̂ + ε), after m and v have taken in g."""
    m[i] = beta1 * m[i] + (1 - beta1) * g
    v[i] = beta2 * v[i] + (1 - beta2) * g**2
    return m[i] / (1 - beta1**t) / (math.sqrt(v[i] / (1 - beta2**t)) + eps)
