"""Exercises of notebook 06: right answers written in other ways, and mistakes people make."""

STEP = """\
optimizer.zero_grad()
loss = F.cross_entropy(model(images), labels)
"""
UPDATE = """\
loss.backward()
optimizer.step()
return loss.item()"""
ASK = """\
if not math.isfinite(loss.item()):
    raise FloatingPointError("not finite")
"""

ANSWERS = {
    "6.1": {
        "right": [
            "top = steps / 4\n"
            "up, down = (step + 1) / top, (steps - step) / (steps - top)\n"
            "return torch.tensor([up, down, 1.0]).min() * highest",
            "rate = min(4 * (step + 1) / steps, 4 * (steps - step) / (3 * steps))\n"
            "return highest if rate > 1 else highest * rate",
        ],
        "wrong": [
            (
                "top = steps / 4\n"
                "return highest * min(step / top, (steps - step) / (steps - top), 1)",
                "rising",
            ),
            (
                "top = steps / 4\n"
                "return highest * min((step + 1) / top, (steps - 1 - step) / (steps - top), 1)",
                "falling",
            ),
            (
                "top = steps / 4\n"
                "return 0.16 * min((step + 1) / top, (steps - step) / (steps - top), 1)",
                "highest",
            ),
            (
                "top = steps // 4\n"
                "return highest * min((step + 1) / top, (steps - step) / (steps - top), 1)",
                "step",
            ),
            (
                "a_step = 1 / (steps / 4 + 1)  # as if step steps / 4 were the first at highest\n"
                "falling = (steps - step) / (steps - steps / 4)\n"
                "return highest * min((step + 1) * a_step, falling, 1)",
                "rising",
            ),
            ("return None", "not None"),
        ],
    },
    "6.2": {
        "right": [
            "return 0.5 * decay * torch.cat([p.flatten() for p in parameters]).square().sum()",
            "total = torch.zeros(1)\n"
            "for p in parameters:\n"
            "    total = total + decay * (p * p).sum() / 2\n"
            "return total",
        ],
        "wrong": [
            ("return decay * sum((p**2).sum() for p in parameters)", "2w"),
            ("return decay * sum(p.abs().sum() for p in parameters)", "2w"),
            ("return decay / 2 * (parameters[0] ** 2).sum()", "sum over all"),
            ("return 0.25 * sum((p**2).sum() for p in parameters)", "decay 0.02"),
            ("return decay / 2 * sum(p**2 for p in parameters)", "one number"),
            ("return decay / 2 * sum(p.sum() ** 2 for p in parameters)", "2w"),
            ("return decay / 2 * sum((p**2).mean() for p in parameters)", "2w"),
            ("return decay / 2 * sum((p**2).sum().item() for p in parameters)", "gradient"),
        ],
    },
    "6.3": {
        "right": [
            STEP + ASK + UPDATE,
            "loss = F.cross_entropy(model(images), labels)\n"
            + ASK
            + "model.zero_grad()\n"
            + UPDATE,
            STEP + "loss.backward()\n" + ASK + "optimizer.step()\nreturn loss.detach()",
        ],
        "wrong": [
            (STEP + UPDATE, "nothing was raised"),
            (STEP + "loss.backward()\noptimizer.step()\n" + ASK + "return loss.item()", "touched"),
            (
                "loss = F.cross_entropy(model(images), labels)\n" + ASK + UPDATE,
                "zero_grad",
            ),
            (
                STEP
                + "if torch.isnan(loss):\n    raise FloatingPointError('nan')\n"
                + "loss = loss.clamp(max=10)\n"
                + UPDATE,
                "nothing was raised",
            ),
            (STEP + ASK + "loss.backward()\nreturn loss.item()", "optimizer.step()"),
            (STEP + ASK + "loss.backward()\noptimizer.step()", "return the loss"),
        ],
    },
    "6.4": {
        "right": [
            "v = gradient + decay * w + momentum * v\n"
            "change = gradient + decay * w + momentum * v\n"
            "return [w - change * rate, v]",
            "g = torch.as_tensor(gradient + decay * w, dtype=torch.float64)\n"
            "new = g + momentum * v\n"
            "ahead = (1 + momentum) * g + momentum**2 * v\n"
            "return w - rate * ahead, new",
            "g = gradient + decay * w\n"
            "v = momentum * v + g\n"
            "pair = [float(w - rate * (g + momentum * v)), float(v)]\n"
            "return torch.tensor(pair, dtype=torch.float64)",
        ],
        "wrong": [
            (
                "v = momentum * v + gradient + decay * w\nreturn w - rate * v, v",
                "look ahead",
            ),
            (
                "g = gradient + decay * w\nreturn w - rate * (g + momentum * v), momentum * v + g",
                "the new v",
            ),
            (
                "v = momentum * v + gradient\nreturn w - rate * (gradient + momentum * v), v",
                "the decay in g",
            ),
            (
                "g = gradient + decay * w\nv = momentum * v + g\n"
                "return w + rate * (g + momentum * v), v",
                "minus rate",
            ),
            (
                "g = gradient + decay * w\nv = momentum * v + g\n"
                "return w - rate * (g + momentum * v)",
                "two numbers",
            ),
            (
                "g = gradient + decay * w\nv = momentum * v + g\n"
                "return torch.tensor(w - rate * (g + momentum * v))",
                "two numbers",
            ),
        ],
    },
}
