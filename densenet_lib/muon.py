"""Muon: gradient descent that turns a convolution's filters by the same amount in every direction.

Source: Jordan and others, "Muon: An optimizer for hidden layers in neural networks", 2024, as used
there on CIFAR-10. PyTorch's own (torch.optim.Muon, from 2.9 on) takes matrices, not convolutions.
Knows nothing of DenseNet. Taught in notebooks/06.
"""

import math

import torch

CONVOLUTION_RATE = 0.2  # the learning rate of a convolution against that of everything else


class Muon(torch.optim.Optimizer):
    """Step convolutions orthogonally, each at a constant length; all else like SGD.

    The gradients of a convolution, gathered by momentum, are a matrix of C_out rows with a few
    strong directions and many weak ones: `orthogonal` makes all equally strong. Since batch
    normalisation takes the filters' length out again, a convolution keeps the length that it has at
    the first step, and steps in proportion to it.

    Args:   parameters: those of a network; the ones of four dimensions are its convolutions.
            lr: learning rate; of convolutions a fifth of it.  momentum: in [0, 1).  nesterov: look
            ahead, as in SGD.  weight_decay: on all that is no convolution.
    Raises: ValueError for a negative rate or decay, or a momentum outside [0, 1).
    Source: see above; the constant length too is from Jordan's code for CIFAR-10.
    """

    def __init__(self, parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0):
        if lr < 0 or weight_decay < 0 or not 0 <= momentum < 1:
            numbers = f"lr {lr}, momentum {momentum}, weight_decay {weight_decay}"
            raise ValueError(f"{numbers}: none may be negative, and momentum is below 1")
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(parameters, {**defaults, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """Change every parameter that has a gradient; return the closure's loss, if there is one.

        Args:   closure: computes the loss and its gradients anew, as for all PyTorch's optimizers.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step(p, group)
        return loss

    def _step(self, p, group):
        is_convolution = p.dim() == 4
        grad = p.grad if is_convolution else p.grad.add(p, alpha=group["weight_decay"])
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
        velocity = state["momentum_buffer"].mul_(group["momentum"]).add_(grad)
        change = grad.add(velocity, alpha=group["momentum"]) if group["nesterov"] else velocity
        rate = group["lr"]
        if is_convolution:
            # Back to the first length, which the last step has left, before the next is measured
            # by it: a step of size 1 suits C_out filters of length 1, so a length of sqrt(C_out).
            now, rate = p.norm(), CONVOLUTION_RATE * rate
            length = state.setdefault("length", now)
            some = (length > 0) & (now > 0)  # else there is none to keep; for `if` a GPU would wait
            if rate:
                p.mul_(torch.where(some, length / now, 1.0))
            size = torch.where(some, length / math.sqrt(len(p)), 1.0)
            change = size * orthogonal(change.flatten(1)).view(p.shape)
        p.sub_(change, alpha=rate)


def orthogonal(matrix, iterations=4):
    """Return nearly U V^T of the singular value decomposition `matrix` = U S V^T.

    By Newton and Schulz: products of matrices alone, fast everywhere. The polynomial
    a s + b s^3 + c s^5, applied again and again to the singular values s, drives them towards 1:
    most end between 0.7 and 1.2, and a direction that hardly exists stays smaller.

    Shape:  (rows, columns) -> (rows, columns), floating point.
    Source: the coefficients are Jordan's.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-12)  # all singular values at most 1
    for _ in range(iterations):
        square = wide @ wide.T
        sums = torch.addmm(square, square, square, beta=b, alpha=c)  # b s^2 + c s^4
        wide = torch.addmm(wide, sums, wide, beta=a)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide
