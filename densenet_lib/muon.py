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
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            if convolutions := [p for p in parameters if p.dim() == 4]:
                self._step_convolutions(convolutions, group)
            if others := [p for p in parameters if p.dim() != 4]:
                changes = self._changes(others, group, group["weight_decay"])
                torch._foreach_sub_(others, changes, alpha=group["lr"])
        return loss

    def _changes(self, parameters, group, decay=0.0):
        """Return what momentum makes of the gradients, as SGD does."""
        grads = [p.grad for p in parameters]
        if decay:
            grads = torch._foreach_add(grads, parameters, alpha=decay)
        velocity = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, grads)
        if not group["nesterov"]:
            return velocity
        return torch._foreach_add(grads, velocity, alpha=group["momentum"])

    def _step_convolutions(self, parameters, group):
        """Step convolutions, those that `_company` puts together at once."""
        rate, companies = CONVOLUTION_RATE * group["lr"], {}
        lengths, changes = torch._foreach_norm(parameters), self._changes(parameters, group)
        for p, length, change in zip(parameters, lengths, changes, strict=True):
            companies.setdefault(_company(p), []).append((p, length, change.flatten(1)))
        for company in companies.values():
            kernels, now, matrices = zip(*company, strict=True)
            # Back to the first length, which the last step has left, before the next is measured
            # by it: a step of size 1 suits C_out filters of length 1, so a length of sqrt(C_out).
            pairs = zip(kernels, now, strict=True)
            first = torch.stack([self.state[p].setdefault("length", length) for p, length in pairs])
            now = torch.stack(now)
            some = (first > 0) & (now > 0)  # else there is none to keep; for `if` a GPU would wait
            back = torch.where(some, first / now, 1.0)
            size = torch.where(some, first / math.sqrt(len(kernels[0])), 1.0)
            steps = _orthogonal_together(matrices)
            for p, factor, length, step in zip(kernels, back, size, steps, strict=True):
                if rate:
                    p.mul_(factor)
                p.sub_((length * step).view(p.shape), alpha=rate)


def _company(kernel):
    """Return a key that is equal for the convolutions that are worked on together.

    On a GPU an operation has its price however small it is: there, all with as many filters. On a
    CPU zeros cost as much as numbers: there, each alone.
    """
    if kernel.device.type == "cpu":
        return id(kernel)
    return len(kernel), kernel.device, kernel.dtype


def _orthogonal_together(matrices):
    """Return `orthogonal` of each of some matrices with equally many rows.

    Zeros behind the shorter rows stay zeros and change nothing else, so one stack holds them all.
    """
    if len(matrices) == 1:
        return [orthogonal(matrices[0])]
    widths = [matrix.shape[1] for matrix in matrices]
    stack = matrices[0].new_zeros(len(matrices), len(matrices[0]), max(widths))
    for place, matrix, width in zip(stack, matrices, widths, strict=True):
        place[:, :width] = matrix
    return [made[:, :width] for made, width in zip(orthogonal(stack), widths, strict=True)]


def orthogonal(matrix, iterations=4):
    """Return nearly U V^T of the singular value decomposition `matrix` = U S V^T.

    By Newton and Schulz: products of matrices alone, fast everywhere. The polynomial
    a s + b s^3 + c s^5, applied again and again to the singular values s, drives them towards 1:
    most end between 0.7 and 1.2, and a direction that hardly exists stays smaller.

    Shape:  (rows, columns) -> (rows, columns), floating point; or a stack of such, (n, ..., ...).
    Source: the coefficients are Jordan's.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    add_product = torch.addmm if matrix.dim() == 2 else torch.baddbmm
    wide = matrix.mT if matrix.shape[-2] > matrix.shape[-1] else matrix
    wide = wide / wide.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)  # all singular values <= 1
    for _ in range(iterations):
        square = wide @ wide.mT
        sums = add_product(square, square, square, beta=b, alpha=c)  # b s^2 + c s^4
        wide = add_product(wide, sums, wide, beta=a)
    return wide.mT if matrix.shape[-2] > matrix.shape[-1] else wide
